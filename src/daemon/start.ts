/** Starts a daemon in the background, detached from the command that needs it. */

import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { ImgstoreError } from '../base/errors.ts';
import type { Settings } from '../base/settings.ts';
import { makeRunFolder } from './run-folder.ts';

/** For mount calls (mountCallsMax in worker.ts), and file reads and zstd beside them. */
const threadPoolSize = 16;
/** More than a daemon waits for one that is ending: see lockWaitMs in run.ts. */
const startWaitMs = 30_000;

/**
 * Resolves when a daemon answers. Of several that start at once one stays, and all wait for it.
 * Errors: UNAVAILABLE with what the daemon said, IO.
 */
export async function startDaemon(
  { runDirectory, home }: Settings,
  options: {
    exitWhenIdle: boolean;
    runningPid: () => Promise<number | undefined>;
    signal?: AbortSignal | undefined;
  },
): Promise<void> {
  const user = process.geteuid?.();
  if (user !== 0) {
    const message = `Cannot start the daemon as user ${user}: it mounts file systems`;
    throw new ImgstoreError('IO', message, { hint: 'Run it as root.' });
  }
  await makeRunFolder(runDirectory);
  const launcher = join(import.meta.dirname, '..', 'imgstore.mjs');
  const args = [launcher, 'daemon', 'run', '--quiet', '--home', home];
  if (options.exitWhenIdle) args.push('--exit-when-idle');
  const child = spawn(process.execPath, args, {
    detached: true,
    cwd: '/',
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, UV_THREADPOOL_SIZE: String(threadPoolSize) },
  });
  try {
    await waitUntilReady(child, options, join(runDirectory, 'daemon.log'));
  } finally {
    child.stderr.destroy();
    child.unref();
  }
}

async function waitUntilReady(
  child: ChildProcessByStdio<null, null, Readable>,
  {
    runningPid,
    signal,
  }: { runningPid: () => Promise<number | undefined>; signal?: AbortSignal | undefined },
  logPath: string,
): Promise<void> {
  let said = '';
  let failed = false;
  child.stderr.setEncoding('utf8');
  child.stderr.on('data', text => {
    said = (said + text).slice(-4096);
  });
  child.on('error', error => {
    said = error.message;
    failed = true;
  });
  // Status 0: another daemon was quicker; it will answer.
  child.on('close', status => {
    failed ||= status !== 0;
  });
  const deadline = performance.now() + startWaitMs;
  for (let waitMs = 5; performance.now() < deadline && !failed; waitMs *= 1.2) {
    const pid = await runningPid();
    // Ours came too late, and must not take over when the other one is stopped.
    if (pid !== undefined && pid !== child.pid) child.kill();
    if (pid !== undefined) return;
    signal?.throwIfAborted();
    await sleep(Math.min(waitMs, 100));
  }
  signal?.throwIfAborted();
  const reason = said
    .trim()
    .split('\n')
    .at(-1)
    ?.replace(/^imgstore: /, '');
  throw new ImgstoreError(
    'UNAVAILABLE',
    `Cannot start the daemon: ${reason || 'it does not answer'}`,
    reason ? {} : { hint: `See ${logPath}.` },
  );
}
