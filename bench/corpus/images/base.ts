/** Debian's essential packages in four states. The other images' versions stand on these. */

import { type ImageDefinition, standsFor } from '../definition.ts';

const current = {
  layers: [{}],
  config: {
    env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
    cmd: ['/bin/sh'],
  },
} as const;

export const base: ImageDefinition = {
  hello: {
    args: ['/bin/sh', '-c', 'echo hello from Debian $(cat /etc/debian_version)'],
    done: { by: 'line', text: 'hello from Debian' },
  },
  current,
  versions: {
    unpatched: { stands: standsFor.unpatched, ...current, archive: { updates: false } },
    // The archive changes twice a week; files of that few packages lose a later time of their own.
    rebuilt: { stands: standsFor.rebuilt, ...current, archive: { daysEarlier: 3 } },
    trixie: { stands: standsFor.trixie, ...current, archive: { codename: 'trixie' } },
  },
};
