/**
 * Time that passes only where a test lets it: waits take a turn of the event loop. Several that wait
 * at once wait for the longest, not for the sum.
 */

import { setImmediate as nextTurn } from 'node:timers/promises';

export class VirtualClock {
  #nowMs: number;
  /** The longest single wait. */
  longestSleepMs = 0;

  constructor(nowMs = Date.UTC(2026, 0, 1)) {
    this.#nowMs = nowMs;
  }

  /** Bound: to be passed on. */
  readonly now = (): number => this.#nowMs;

  advance(timeMs: number): void {
    this.#nowMs += timeMs;
  }

  /** Rejects with the signal's reason if that is aborted. */
  readonly sleep = async (waitMs: number, signal?: AbortSignal): Promise<void> => {
    const untilMs = this.#nowMs + waitMs;
    this.longestSleepMs = Math.max(this.longestSleepMs, waitMs);
    signal?.throwIfAborted();
    await nextTurn();
    signal?.throwIfAborted();
    this.#nowMs = Math.max(this.#nowMs, untilMs);
  };
}
