/** `run`: starts the image's program in a container on a fresh writable mount. */

import { existsSync } from 'node:fs';
import { isatty } from 'node:tty';
import { processArguments, searchPath, writeBundle } from '../container/bundle.ts';
import { parseImageConfig } from '../container/image-config.ts';
import { findStartFailure } from '../container/program.ts';
import { containerOf, findRuntime, runContainer } from '../container/runtime.ts';
import { resolveUser } from '../container/user.ts';
import { DaemonClient } from '../daemon/client.ts';
import type { MountInfo, MountRequest } from '../daemon/protocol.ts';
import { type Command, type CommandContext, type CommandResult, storeOption } from './command.ts';
import { formatBytes, formatShare } from './format.ts';
import { keyIdOf } from './mount-info.ts';

export const command: Command = {
  usage: 'NAME[:TAG][@RECIPE] [-- ARGUMENT…]',
  summary: "start the image's program in a container",
  description: `
Mounts the image lazily with a fresh writable layer, starts its entry point with crun or runc, and
exits with its status. ARGUMENTs take the place of the image's Cmd. The container has its own
processes, mounts and host name, and the host's network. Nothing of it is left afterwards. With
@RECIPE, a NAME that means another recipe is refused.`,
  options: {
    ...storeOption,
    stats: { type: 'boolean', help: 'say on stderr how much of the image was fetched' },
  },
  positionals: { min: 1, max: 1 },
  takesRest: true,

  async run(context): Promise<CommandResult> {
    const runtime = await findRuntime(context.env['PATH'] ?? '');
    const client = new DaemonClient(context.settings);
    const request: MountRequest = {
      name: context.positionals[0]!,
      store: context.settings.store,
      as: 'erofs',
      rw: true,
      lease: true,
      containerRuntime: runtime,
      ...(await keyIdOf(context)),
    };
    const lease = await client.lease(request, context.signal);
    try {
      const result = await runOn(lease.info, runtime, context);
      if (context.flag('stats')) await printStats(client, lease.info, context);
      return result;
    } finally {
      await client.endLease(lease);
    }
  },
};

async function runOn(
  info: MountInfo,
  runtime: string,
  context: CommandContext,
): Promise<CommandResult> {
  const config = parseImageConfig(info.configText ?? '{}');
  const [program] = processArguments(config, context.rest);
  const place = { path: searchPath(config), workingDirectory: config.workingDirectory };
  const failure = await findStartFailure(info.dir, program!, place);
  if (failure !== undefined) return { failure: failure.error, exitStatus: failure.exitStatus };
  const container = containerOf(runtime, info.folder);
  await writeBundle(container.bundleDirectory, {
    rootDirectory: info.dir,
    config,
    command: context.rest,
    user: await resolveUser(info.dir, config.user),
    // Not process.stdin.isTTY: to make that stream would change the pipe that the container reads.
    terminal: isatty(0) && isatty(1),
    sharedFiles: ['/etc/resolv.conf', '/etc/hosts'].filter(path => existsSync(path)),
  });
  context.signal.throwIfAborted();
  return { exitStatus: await runContainer(container) };
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
