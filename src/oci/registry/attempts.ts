/**
 * How often and after which wait something is tried again: exponential back-off with full jitter,
 * never sooner than the service asked for, and not at all if it asks for too long.
 */

import { setTimeout as setTimer } from 'node:timers/promises';
import { TransientFault } from './faults.ts';

export interface RetryRules {
  /** In a row, without progress between them. */
  attemptsMax: number;
  /** The first retry comes after 0 to this, each later one may take twice as long. */
  waitFirstMs: number;
  waitMaxMs: number;
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
    const { waitFirstMs, waitMaxMs, retryAfterMaxMs } = this.#rules;
    const askedMs = (fault instanceof TransientFault ? fault.retryAfterMs : undefined) ?? 0;
    if (askedMs > retryAfterMaxMs) throw fault;
    const spreadMs = Math.min(waitFirstMs * 2 ** (this.#failed - 1), waitMaxMs);
    await sleep(askedMs + Math.random() * spreadMs, signal);
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

async function sleep(waitMs: number, signal: AbortSignal): Promise<void> {
  try {
    await setTimer(waitMs, undefined, { signal });
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  }
}

/** Retry-After (RFC 9110, 10.2.3): seconds, or a date; undefined if it is neither. */
export function parseRetryAfter(header: string | undefined, nowMs: number): number | undefined {
  const text = header?.trim() ?? '';
  if (/^[0-9]{1,9}$/.test(text)) return Number(text) * 1000;
  const dateMs = /GMT$/.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(dateMs) ? undefined : Math.max(0, dateMs - nowMs);
}
