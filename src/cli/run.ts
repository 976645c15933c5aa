/** `run`: starts the image's program in a container on a fresh writable mount. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ImgstoreError } from '../base/errors.ts';
import { writeBundle } from '../container/bundle.ts';
import { parseImageConfig } from '../container/image-config.ts';
import { findRuntime, runContainer } from '../container/runtime.ts';
import { resolveUser } from '../container/user.ts';
import { DaemonClient } from '../daemon/client.ts';
import type { MountInfo } from '../daemon/protocol.ts';
import { type Command, type CommandContext, type CommandResult, storeOption } from './command.ts';
import { formatBytes, formatShare } from './format.ts';

export const command: Command = {
  usage: 'NAME[:TAG] [-- ARGUMENT…]',
  summary: "start the image's program in a container",
  description: `
Mounts the image lazily with a fresh writable layer, starts its entry point with crun or runc, and
exits with its status. ARGUMENTs take the place of the image's Cmd. The container has its own
processes, mounts and host name, and the host's network. Nothing of it is left afterwards.`,
  options: {
    ...storeOption,
    stats: { type: 'boolean', help: 'say on stderr how much of the image was fetched' },
  },
  positionals: { min: 1, max: 1 },
  takesRest: true,

  async run(context): Promise<CommandResult> {
    const runtime = await findRuntime(context.env['PATH'] ?? '');
    const client = new DaemonClient(context.settings);
    const lease = await client.lease({
      name: context.positionals[0]!,
      store: context.settings.store,
      as: 'erofs',
      rw: true,
      lease: true,
      containerRuntime: runtime,
    });
    try {
      const exitStatus = await runOn(lease.info, runtime, context);
      if (context.flag('stats')) await printStats(client, lease.info, context);
      return { exitStatus };
    } finally {
      const path = `/mounts?dir=${encodeURIComponent(lease.info.dir)}`;
      await client.callIfRunning('DELETE', path);
      lease.release();
    }
  },
};

async function runOn(info: MountInfo, runtime: string, context: CommandContext): Promise<number> {
  if (info.configText === null) {
    throw new ImgstoreError('UNSUPPORTED', `Cannot run ${info.name}: it is a raw disk`, {
      hint: 'Start a virtual machine on it: see imgstore mount --as disk.',
    });
  }
  const config = parseImageConfig(info.configText);
  const bundle = join(info.folder, 'bundle');
  await writeBundle(bundle, {
    rootDirectory: info.dir,
    config,
    command: context.rest,
    user: await resolveUser(info.dir, config.user),
    terminal: process.stdin.isTTY === true && process.stdout.isTTY === true,
    sharedFiles: ['/etc/resolv.conf', '/etc/hosts'].filter(path => existsSync(path)),
  });
  context.signal.throwIfAborted();
  const container = { runtime, stateDirectory: join(info.folder, 'container'), id: info.id };
  return runContainer(container, bundle);
}

async function printStats(client: DaemonClient, { id }: MountInfo, { progress }: CommandContext) {
  const mounts = (await client.callIfRunning('GET', '/mounts')) as MountInfo[] | undefined;
  const info = mounts?.find(mount => mount.id === id);
  if (info === undefined) return;
  const { storedBytesFetched, storedBytes, chunksFetched, chunks, diskBytes } = info;
  progress.step(
    `Fetched ${formatBytes(storedBytesFetched)} of ${formatBytes(storedBytes)} stored ` +
      `(${formatShare(storedBytesFetched, storedBytes)}), ${chunksFetched} of ${chunks} chunks, ` +
      `for a disk of ${formatBytes(diskBytes)}`,
  );
}
