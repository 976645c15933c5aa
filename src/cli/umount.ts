/** `umount`: the reverse of mount. */

import { resolve } from 'node:path';
import { ImgstoreError } from '../base/errors.ts';
import { DaemonClient } from '../daemon/client.ts';
import { hasRecords } from '../daemon/mount-table.ts';
import type { Command, CommandResult } from './command.ts';

export const command: Command = {
  usage: 'DIR',
  summary: 'take a mount away, leaving nothing behind',
  description: `
Unmounts the image at DIR. What was written to it with --rw is gone. A mount that a program still
uses is left as it is.`,
  options: {},
  positionals: { min: 1, max: 1 },

  async run({ positionals, settings }): Promise<CommandResult> {
    const dir = resolve(positionals[0]!);
    const client = new DaemonClient(settings);
    const path = `/mounts?dir=${encodeURIComponent(dir)}`;
    // Without a daemon there is something to do only if one died and left mounts behind: the next
    // one takes them away when it starts.
    const answer = (await hasRecords(settings.runDirectory))
      ? await client.call('DELETE', path)
      : await client.callIfRunning('DELETE', path);
    if (answer === undefined) {
      throw new ImgstoreError(
        'NOT_FOUND',
        `Cannot unmount ${dir}: imgstore mounted nothing there`,
        {
          hint: 'imgstore mounts shows what is mounted.',
        },
      );
    }
    return { data: { dir }, text: `${dir} unmounted` };
  },
};
