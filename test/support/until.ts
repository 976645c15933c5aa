/** Waiting for what other parts of a test bring about; a test that waits in vain fails. */

import { setImmediate as nextTurn } from 'node:timers/promises';

const timeoutMs = 10_000;

/** Gives everything else its turn until the condition holds. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadlineMs) throw new Error(`not after ${timeoutMs} ms: ${what}`);
    await nextTurn();
  }
}
