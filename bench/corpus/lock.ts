/** One builder at a time, between processes too: the kernel frees the lock of one that dies. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';

/** Waits until nobody else holds the lock file, which is made if absent. */
export async function lockFile(path: string): Promise<AsyncDisposable> {
  // Holds the lock until its input ends, which it does with this process at the latest.
  const holder = spawn('flock', [path, 'sh', '-c', 'echo locked; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = once(holder, 'close');
  const locked = once(holder.stdout, 'data');
  await Promise.race([
    locked,
    ended.then(([code]) => {
      throw new Error(`flock ${path}: exit status ${code}`);
    }),
  ]);
  return {
    async [Symbol.asyncDispose]() {
      holder.stdin.end();
      await ended;
    },
  };
}
