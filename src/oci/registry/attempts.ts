/**
 * How often and after which wait something is tried again: exponential back-off with full jitter,
 * never sooner than the service asked for, and not at all if it asks for too long.
 */

import { type BackOff, backOffMs, sleepUnlessAborted } from '../../base/retry.ts';
import { TransientFault } from './faults.ts';

export interface RetryRules extends BackOff {
  /** In a row, without progress between them. */
  attemptsMax: number;
  /** Who is told to come back later than this gives up instead. */
  retryAfterMaxMs: number;
}

export const retryDefaults: RetryRules = {
  attemptsMax: 6,
  waitFirstMs: 250,
  waitMaxMs: 8_000,
  retryAfterMaxMs: 60_000,
};

export class Attempts {
  readonly #rules: RetryRules;
  #failed = 0;

  constructor(rules: RetryRules) {
    this.#rules = rules;
  }

  /** Something was achieved: the count begins anew. */
  progressed(): void {
    this.#failed = 0;
  }

  /**
   * Returns when it is time for the next attempt; throws the fault if there is to be none, or the
   * reason of the signal. Only transient faults are worth one, unless `always`.
   */
  async next(fault: unknown, signal: AbortSignal, { always = false } = {}): Promise<void> {
    signal.throwIfAborted();
    if (!always && !(fault instanceof TransientFault)) throw fault;
    this.#failed++;
    if (this.#failed >= this.#rules.attemptsMax) throw fault;
    const askedMs = (fault instanceof TransientFault ? fault.retryAfterMs : undefined) ?? 0;
    if (askedMs > this.#rules.retryAfterMaxMs) throw fault;
    const wait = { retry: this.#failed, askedMs, random: Math.random() };
    await sleepUnlessAborted(backOffMs(this.#rules, wait), signal);
  }

  /** What `work` gives in the end. */
  async run<V>(work: () => Promise<V>, signal: AbortSignal): Promise<V> {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        await this.next(error, signal);
      }
    }
  }
}
