/** The daemon's life as a process: lock, log, control socket, orderly end. */

import { createWriteStream } from 'node:fs';
import { rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describeError, ImgstoreError } from '../base/errors.ts';
import { collectBuffersWithTheHeap } from '../base/external-memory.ts';
import { MiB } from '../base/limits.ts';
import { type Log, lineLog } from '../base/log.ts';
import type { Settings } from '../base/settings.ts';
import { DaemonClient } from './client.ts';
import { serveControl } from './control-server.ts';
import { Daemon } from './daemon.ts';
import { takeLock } from './daemon-lock.ts';
import { socketName } from './protocol.ts';
import { makeRunFolder } from './run-folder.ts';

const logSizeMaxBytes = 8 * MiB;
/** A daemon that is ending unmounts what it has before it gives the lock back. */
const lockWaitMs = 15_000;
const lockRetryMs = 50;

export interface RunOptions {
  settings: Settings;
  env: NodeJS.ProcessEnv;
  exitWhenIdle: boolean;
  signal: AbortSignal;
  /** Where log lines go besides the file. */
  echo?: ((line: string) => void) | undefined;
}

/**
 * Resolves to true when the daemon has ended in order, to false if another one serves this home.
 * Errors: UNAVAILABLE another one neither serves nor ends, those of Daemon.open and serveControl.
 */
export async function runDaemon(options: RunOptions): Promise<boolean> {
  collectBuffersWithTheHeap();
  const { settings, echo } = options;
  const run = settings.runDirectory;
  await makeRunFolder(run);
  const release = await waitForLock(settings, options.signal);
  if (release === undefined) return false;
  const { log, end } = await openLog(join(run, 'daemon.log'), echo);
  try {
    await serve(options, log);
    return true;
  } catch (error) {
    log('error', describeError(error));
    throw error;
  } finally {
    await end();
    release();
  }
}

/** Undefined if another daemon serves, or if we are to stop; one that ends is waited for. */
async function waitForLock(
  settings: Settings,
  signal: AbortSignal,
): Promise<(() => void) | undefined> {
  const client = new DaemonClient(settings);
  const deadlineMs = performance.now() + lockWaitMs;
  while (performance.now() < deadlineMs) {
    if (signal.aborted) return undefined;
    const release = takeLock(join(settings.runDirectory, 'daemon.lock'));
    if (release !== undefined) return release;
    if ((await client.pid()) !== undefined) return undefined;
    await sleep(lockRetryMs);
  }
  const what = `Cannot run a daemon for ${settings.home}`;
  throw new ImgstoreError('UNAVAILABLE', `${what}: another one has it and does not answer`, {
    hint: `See ${join(settings.runDirectory, 'daemon.log')}.`,
  });
}

async function serve({ settings, env, exitWhenIdle, signal }: RunOptions, log: Log) {
  const daemon = await Daemon.open({ settings, env, exitWhenIdle, log });
  try {
    const socketPath = join(settings.runDirectory, socketName);
    const server = await serveControl(socketPath, daemon, log);
    log('info', `daemon ${process.pid} serves ${settings.home}`);
    await daemon.untilEnd(signal);
    // Whoever comes now finds no socket, starts the next daemon, and that one waits for our lock.
    server.refuse();
    await daemon.close();
    await server.end();
  } catch (error) {
    await daemon.close();
    throw error;
  }
  log('info', `daemon ${process.pid} has ended`);
}

async function openLog(path: string, echo: RunOptions['echo']) {
  const size = await stat(path).then(
    found => found.size,
    () => 0,
  );
  if (size > logSizeMaxBytes) await rename(path, `${path}.1`);
  const stream = createWriteStream(path, { flags: 'a', mode: 0o600 });
  // A full disk must not end the daemon; the log has a gap then.
  stream.on('error', () => {});
  const log = lineLog(line => {
    stream.write(line);
    echo?.(line);
  });
  return { log, end: () => new Promise<void>(done => stream.end(() => done())) };
}
