/** `mount`: shows an image at a folder; what is read is fetched when it is read. */

import { resolve } from 'node:path';
import { ImgstoreError } from '../base/errors.ts';
import { DaemonClient } from '../daemon/client.ts';
import type { MountRequest } from '../daemon/protocol.ts';
import {
  type Command,
  type CommandContext,
  type CommandResult,
  storeOption,
  usageError,
} from './command.ts';
import { formatBytes } from './format.ts';
import { keyIdOf, type PublicMountInfo, publicInfo } from './mount-info.ts';

export const command: Command = {
  usage: 'NAME[:TAG][@RECIPE] DIR',
  summary: 'show an image at a folder, lazily',
  description: `
Mounts the image NAME on the folder DIR, read-only. Fetched is what is read, and what names and
places of files are in. The daemon that serves it is started if none runs, and ends some seconds
after the last mount. With @RECIPE, a NAME that means another recipe is refused.`,
  options: {
    ...storeOption,
    rw: { type: 'boolean', help: 'writable: what is written is kept until umount, then dropped' },
    as: {
      type: 'string',
      value: 'KIND',
      help: 'erofs: the tree (default); disk: the raw disk at DIR/disk',
    },
    foreground: { type: 'boolean', help: 'stay until Ctrl-C, then unmount' },
  },
  positionals: { min: 2, max: 2 },

  async run(context): Promise<CommandResult> {
    const client = new DaemonClient(context.settings);
    const request = await mountRequest(context);
    if (!request.lease) {
      const info = publicInfo(await client.mount(request, context.signal));
      return { data: info, text: describe(info) };
    }
    const lease = await client.lease(request, context.signal);
    const info = publicInfo(lease.info);
    context.print({ data: info, text: `${describe(info)}; Ctrl-C unmounts it` });
    await Promise.race([lease.ended, aborted(context.signal)]);
    if (!context.signal.aborted) {
      throw new ImgstoreError('IO', `Cannot keep ${info.name} at ${info.dir}: it was unmounted`, {
        hint: 'Somebody ran imgstore umount, or the daemon has ended.',
      });
    }
    await client.endLease(lease);
    return { text: `${info.dir} unmounted` };
  },
};

async function mountRequest(context: CommandContext): Promise<MountRequest> {
  const [name, dir] = context.positionals as [string, string];
  const as = context.option('as') ?? 'erofs';
  const rw = context.flag('rw');
  if (as !== 'erofs' && as !== 'disk') {
    throw usageError(`Cannot mount as "${as}": no such kind`, 'Use --as erofs or --as disk');
  }
  if (rw && as === 'disk') {
    throw usageError('Cannot mount a raw disk writable', 'Leave out --rw or --as disk');
  }
  if (dir === '') throw usageError('Cannot mount: DIR is empty', 'Name a folder');
  const { store } = context.settings;
  const lease = context.flag('foreground');
  return { name, store, dir: resolve(dir), as, rw, lease, ...(await keyIdOf(context)) };
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await new Promise(done => signal.addEventListener('abort', done));
}

function describe({ name, dir, diskBytes }: PublicMountInfo): string {
  return `${name} (${formatBytes(diskBytes)}) is at ${dir}`;
}
