/**
 * How many retries one process may send to a service that does not work: a bucket of tokens, one a
 * retry. However many requests fail and however long, after the first `tokensMax` retries there are
 * no more than one in `tokenEveryMs`, one for ten requests that work at once, and those that worked:
 * their token comes back, so that a service that recovers is not kept waiting.
 */

export interface RetryBudgetOptions {
  /** One hiccup of the network fails everything that is in flight: each may try again at once. */
  tokensMax?: number;
  tokenEveryMs?: number;
  /** Milliseconds of a clock that does not go back. */
  now: () => number;
}

const tokensMaxDefault = 32;
const tokenEveryMsDefault = 1000;
const returnedByFirstAttempt = 0.1;

export class RetryBudget {
  readonly #tokensMax: number;
  readonly #tokenEveryMs: number;
  readonly #now: () => number;
  #tokens: number;
  #filledMs: number;

  constructor({ tokensMax, tokenEveryMs, now }: RetryBudgetOptions) {
    this.#tokensMax = tokensMax ?? tokensMaxDefault;
    this.#tokenEveryMs = tokenEveryMs ?? tokenEveryMsDefault;
    this.#now = now;
    this.#tokens = this.#tokensMax;
    this.#filledMs = now();
  }

  /** Whether a retry may be sent now; it is then paid for. */
  take(): boolean {
    const nowMs = this.#now();
    this.#add((nowMs - this.#filledMs) / this.#tokenEveryMs);
    this.#filledMs = nowMs;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }

  /** Of any request that worked. */
  succeeded({ retried }: { retried: boolean }): void {
    this.#add(retried ? 1 : returnedByFirstAttempt);
  }

  #add(tokens: number): void {
    this.#tokens = Math.min(this.#tokensMax, this.#tokens + tokens);
  }
}
