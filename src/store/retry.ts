/**
 * Retries of what failed with a RetryableFault: exponential back-off with full jitter, as long as
 * the budget allows, and never sooner than the service asked for. Waiting ends with the caller's
 * signal. Random and time are passed in.
 */

import { ImgstoreError } from '../base/errors.ts';
import { type BackOff, backOffMs, RetryableFault, sleepUnlessAborted } from '../base/retry.ts';
import { RetryBudget } from './retry-budget.ts';

export interface RetryOptions extends Partial<BackOff> {
  attemptsMax?: number;
  /** By default one of this retrier's own; several may share one. */
  budget?: RetryBudget;
  /** 0 to below 1. */
  random?: () => number;
  /** Milliseconds of a clock that does not go back. */
  now?: () => number;
  /** A call fails again and again, and is still tried: one line. */
  onTrouble?: (message: string) => void;
  /** Rejects when the signal is aborted. */
  sleep?: (waitMs: number, signal: AbortSignal | undefined) => Promise<void>;
}

export interface CallOptions {
  signal?: AbortSignal | undefined;
  /** No retry begins later than this after the first attempt began. */
  elapsedMaxMs?: number;
}

const elapsedMaxDefaultMs = 90_000;
/** Who waits hears why, after so long and every so often; what passes sooner nobody needs to know. */
const troubleAfterMs = 2000;
const troubleEveryMs = 10_000;
/** How often one who waits for the budget looks again, on average. */
const budgetPollMs = 250;

export class Retrier {
  readonly #attemptsMax: number;
  readonly #backOff: BackOff;
  readonly #budget: RetryBudget;
  readonly #random: () => number;
  readonly #now: () => number;
  readonly #sleep: NonNullable<RetryOptions['sleep']>;
  readonly #onTrouble: NonNullable<RetryOptions['onTrouble']>;
  #toldMs = Number.NEGATIVE_INFINITY;

  constructor(options: RetryOptions = {}) {
    this.#attemptsMax = options.attemptsMax ?? 10;
    const { waitFirstMs = 100, waitMaxMs = 8000 } = options;
    this.#backOff = { waitFirstMs, waitMaxMs };
    this.#random = options.random ?? Math.random;
    this.#now = options.now ?? (() => performance.now());
    this.#budget = options.budget ?? new RetryBudget({ now: this.#now });
    this.#sleep = options.sleep ?? sleepUnlessAborted;
    this.#onTrouble = options.onTrouble ?? (() => {});
  }

  /** What `work` gives in the end. Any fault but a RetryableFault, and an abort, end it at once. */
  async run<V>(work: () => Promise<V>, options: CallOptions = {}): Promise<V> {
    const { signal, elapsedMaxMs = elapsedMaxDefaultMs } = options;
    const beganMs = this.#now();
    for (let attempt = 1; ; attempt++) {
      try {
        const value = await work();
        this.#budget.succeeded({ retried: attempt > 1 });
        return value;
      } catch (error) {
        if (!(error instanceof RetryableFault)) throw error;
        signal?.throwIfAborted();
        this.#tell(error, beganMs);
        const latestMs = beganMs + elapsedMaxMs;
        if (attempt < this.#attemptsMax && (await this.#mayRetry(attempt, error, latestMs, signal)))
          continue;
        throw givenUp(error, attempt, this.#now() - beganMs);
      }
    }
  }

  #tell(fault: RetryableFault, beganMs: number): void {
    const nowMs = this.#now();
    if (nowMs - beganMs < troubleAfterMs || nowMs - this.#toldMs < troubleEveryMs) return;
    this.#toldMs = nowMs;
    this.#onTrouble(`${fault.message}; trying again`);
  }

  /** Waits until it is time for the next attempt; false if that would be too late. */
  async #mayRetry(
    attempt: number,
    { retryAfterMs = 0 }: RetryableFault,
    latestMs: number,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    const random = this.#random();
    const waitMs = backOffMs(this.#backOff, { retry: attempt, askedMs: retryAfterMs, random });
    if (this.#now() + waitMs > latestMs) return false;
    await this.#sleep(waitMs, signal);
    while (!this.#budget.take()) {
      if (this.#now() > latestMs) return false;
      await this.#sleep(budgetPollMs * (0.5 + this.#random()), signal);
    }
    return true;
  }
}

function givenUp(fault: RetryableFault, attempts: number, elapsedMs: number): ImgstoreError {
  const seconds = (elapsedMs / 1000).toFixed(1);
  const tries = attempts === 1 ? '1 attempt' : `${attempts} attempts`;
  return new ImgstoreError(fault.code, `${fault.message} (${tries} in ${seconds} s)`, {
    cause: fault,
    ...(fault.hint !== undefined && { hint: fault.hint }),
  });
}
