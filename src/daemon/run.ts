/** The daemon's life: lock, recovery of what a dead one left, FUSE, control socket, orderly end. */

import { createWriteStream } from 'node:fs';
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError, ImgstoreError, ioError } from '../base/errors.ts';
import { MiB } from '../base/limits.ts';
import { type Log, lineLog } from '../base/log.ts';
import type { Settings } from '../base/settings.ts';
import { DiskCache } from '../cache/disk-cache.ts';
import { FuseServer } from '../fuse/server.ts';
import { DecodedCache } from '../image/decoded-cache.ts';
import { loadOwnerKey } from '../keys/load.ts';
import { type Control, serveControl } from './control-server.ts';
import { takeLock } from './daemon-lock.ts';
import { formatMetrics } from './metrics.ts';
import { MountTable, mountTableFolder } from './mount-table.ts';
import { type DaemonStatus, socketName } from './protocol.ts';
import { recover } from './recover.ts';
import { Stores } from './stores.ts';
import { Worker } from './worker.ts';

const idleExitMs = 10_000;
const logSizeMaxBytes = 8 * MiB;

export interface DaemonOptions {
  settings: Settings;
  env: NodeJS.ProcessEnv;
  exitWhenIdle: boolean;
  signal: AbortSignal;
}

/** Resolves when the daemon has ended in order. Errors: BUSY is none: another one serves already. */
export async function runDaemon(options: DaemonOptions): Promise<void> {
  const { settings } = options;
  const run = settings.runDirectory;
  try {
    await mkdir(run, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw ioError(`Cannot use ${run}`, error);
  }
  const release = takeLock(join(run, 'daemon.lock'));
  if (release === undefined) return;
  const log = await openLog(join(run, 'daemon.log'));
  try {
    await serve(options, log);
  } catch (error) {
    log('error', describeError(error));
    throw error;
  } finally {
    release();
  }
}

async function serve({ settings, env, exitWhenIdle, signal }: DaemonOptions, log: Log) {
  const table = await MountTable.open(mountTableFolder(settings.runDirectory));
  const mountPoint = join(settings.runDirectory, 'fuse');
  await recover(table, mountPoint, log);
  await mkdir(mountPoint, { recursive: true, mode: 0o700 });
  const fuse = await FuseServer.mount({ mountPoint, log });
  const diskCache = new DiskCache({
    folder: settings.cacheDirectory,
    sizeMaxBytes: settings.diskCacheMaxBytes,
    log,
  });
  const decoded = new DecodedCache(settings.memoryCacheMaxBytes);
  const directory = settings.keysDirectory;
  const ownerKey = () => loadOwnerKey({ directory, env, create: false });
  const stores = new Stores({ diskCache, decoded, ownerKey, log });
  const worker = new Worker({ table, stores, fuse, log });
  const started = performance.now();
  const ending = Promise.withResolvers<void>();
  let mayExit = exitWhenIdle;
  let lastBusy = started;
  const status = (): DaemonStatus => ({
    pid: process.pid,
    mounts: worker.list().length,
    uptimeSeconds: Math.round((performance.now() - started) / 1000),
    memoryBytes: process.memoryUsage.rss(),
    memoryCacheBytes: decoded.sizeBytes,
    diskCacheBytes: diskCache.stats().bytes,
  });
  const control: Control = {
    mount: (request, gone) => worker.mount(request, gone),
    unmount: dir => worker.unmount(dir),
    mounts: () => worker.list(),
    status,
    metrics: () => formatMetrics(status(), worker.list()),
    stay: () => {
      mayExit = false;
    },
    stop: async ({ force }) => {
      await stopMounts(worker, force);
      ending.resolve();
    },
  };
  const server = await serveControl(join(settings.runDirectory, socketName), control, log);
  const idleCheck = setInterval(() => {
    if (worker.busy) lastBusy = performance.now();
    else if (mayExit && performance.now() - lastBusy > idleExitMs) ending.resolve();
  }, 1000);
  signal.addEventListener('abort', () => ending.resolve());
  log('info', `daemon ${process.pid} serves ${settings.home}`);
  await ending.promise;
  clearInterval(idleCheck);
  // Asked to end by a signal: what is mounted goes along, in use or not.
  await stopMounts(worker, true);
  server.close();
  server.closeAllConnections();
  await rm(join(settings.runDirectory, socketName), { force: true });
  await fuse.close();
  await diskCache.close();
  log('info', `daemon ${process.pid} has ended`);
}

async function stopMounts(worker: Worker, force: boolean): Promise<void> {
  const mounts = worker.list();
  if (!force && mounts.length > 0) {
    throw new ImgstoreError('BUSY', `Cannot stop the daemon: ${mounts.length} mounted`, {
      hint: 'Unmount them first (imgstore mounts), or use --force.',
    });
  }
  for (const { dir } of mounts) await worker.unmount(dir, { force });
}

async function openLog(path: string): Promise<Log> {
  const size = await stat(path).then(
    found => found.size,
    () => 0,
  );
  if (size > logSizeMaxBytes) await rename(path, `${path}.1`);
  const stream = createWriteStream(path, { flags: 'a', mode: 0o600 });
  // A full disk must not end the daemon; the log has a gap then.
  stream.on('error', () => {});
  return lineLog(line => stream.write(line));
}
