/** `mount`: shows an image at a folder; what is read is fetched when it is read. */

import { resolve } from 'node:path';
import { DaemonClient } from '../daemon/client.ts';
import type { MountInfo, MountRequest } from '../daemon/protocol.ts';
import {
  type Command,
  type CommandContext,
  type CommandResult,
  storeOption,
  usageError,
} from './command.ts';
import { formatBytes } from './format.ts';

export const command: Command = {
  usage: 'NAME[:TAG] DIR',
  summary: 'show an image at a folder, lazily',
  description: `
Mounts the image NAME on the folder DIR, read-only. Nothing of it is fetched but what is read. The
daemon that serves it is started if none runs, and ends some seconds after the last mount.`,
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
    const request = mountRequest(context);
    if (!request.lease) {
      const info = (await client.call('POST', '/mounts', request)) as MountInfo;
      return { data: info, text: describe(info) };
    }
    const lease = await client.lease(request);
    context.progress.step(`${describe(lease.info)}; Ctrl-C unmounts it`);
    if (!context.signal.aborted) {
      await new Promise(done => context.signal.addEventListener('abort', done));
    }
    const { dir } = lease.info;
    await client.callIfRunning('DELETE', `/mounts?dir=${encodeURIComponent(dir)}`);
    lease.release();
    return { data: lease.info, text: `${dir} unmounted` };
  },
};

function mountRequest(context: CommandContext): MountRequest {
  const [name, dir] = context.positionals as [string, string];
  const as = context.option('as') ?? 'erofs';
  const rw = context.flag('rw');
  if (as !== 'erofs' && as !== 'disk') {
    throw usageError(`Cannot mount as "${as}": no such kind`, 'Use --as erofs or --as disk');
  }
  if (rw && as === 'disk') {
    throw usageError('Cannot mount a raw disk writable', 'Leave out --rw or --as disk');
  }
  const { store } = context.settings;
  return { name, store, dir: resolve(dir), as, rw, lease: context.flag('foreground') };
}

function describe({ name, dir, diskBytes }: MountInfo): string {
  return `${name} (${formatBytes(diskBytes)}) is at ${dir}`;
}
