/**
 * Time that jumps from one timer to the next as soon as nothing else is left to do, in the right
 * order: many things can wait for different times at once. See VirtualClock for where that is not
 * needed.
 */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { Random } from './random.ts';

interface Timer {
  atMs: number;
  order: number;
  run: (() => void) | undefined;
}

export class EventClock {
  readonly #random: Random;
  /** A heap: none is due before the one at half its index. Index 0 is empty. */
  readonly #heap: Timer[] = [{ atMs: Number.NEGATIVE_INFINITY, order: 0, run: undefined }];
  #nowMs = 0;
  #order = 0;
  #timers = 0;

  constructor(seed = 1) {
    this.#random = new Random(seed);
  }

  /** Bound, as the others: to be passed on. */
  readonly nowMs = (): number => this.#nowMs;

  readonly random = (): number => this.#random.u32() / 2 ** 32;

  readonly startTimer = (waitMs: number, run: () => void): (() => void) => {
    const timer: Timer = { atMs: this.#nowMs + waitMs, order: ++this.#order, run };
    this.#timers++;
    let at = this.#heap.push(timer) - 1;
    for (; isBefore(timer, this.#heap[at >> 1]!); at >>= 1) this.#heap[at] = this.#heap[at >> 1]!;
    this.#heap[at] = timer;
    return () => {
      if (timer.run !== undefined) this.#timers--;
      timer.run = undefined;
    };
  };

  /** Rejects with the signal's reason if that is aborted. */
  readonly sleep = (waitMs: number, signal?: AbortSignal): Promise<void> =>
    new Promise((resolve, reject) => {
      const stop = this.startTimer(waitMs, () => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      });
      const onAbort = () => {
        stop();
        reject(signal!.reason);
      };
      if (signal?.aborted === true) onAbort();
      else signal?.addEventListener('abort', onAbort, { once: true });
    });

  get timers(): number {
    return this.#timers;
  }

  /** Runs what is due until that time, and leaves the clock there. */
  async runUntil(untilMs: number): Promise<void> {
    do await nextTurn();
    while (this.#fire(untilMs));
    this.#nowMs = Math.max(this.#nowMs, untilMs);
  }

  /** Runs until the promise is settled, and gives what it gives. */
  async settle<V>(promise: Promise<V>): Promise<V> {
    let isSettled = false;
    const settled = () => {
      isSettled = true;
    };
    promise.then(settled, settled);
    do await nextTurn();
    while (!isSettled && this.#fire(Number.POSITIVE_INFINITY));
    if (!isSettled) throw new Error('nothing is left that could settle it');
    return promise;
  }

  /** Those that are due next, at one time. */
  #fire(untilMs: number): boolean {
    let fired = false;
    for (;;) {
      const next = this.#heap[1];
      if (next === undefined || next.atMs > (fired ? this.#nowMs : untilMs)) return fired;
      this.#removeFirst();
      if (next.run === undefined) continue;
      this.#nowMs = next.atMs;
      this.#timers--;
      const { run } = next;
      next.run = undefined;
      run();
      fired = true;
    }
  }

  #removeFirst(): void {
    const heap = this.#heap;
    const moved = heap.pop()!;
    if (heap.length === 1) return;
    let at = 1;
    for (;;) {
      let child = 2 * at;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, moved)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = moved;
  }
}

function isBefore(a: Timer, b: Timer): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
