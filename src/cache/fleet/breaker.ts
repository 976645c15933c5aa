/**
 * Whether a node is worth asking, from how it answered before.
 *
 * Closed, every request passes. Consecutive failures, or too large a share of them, open it: nothing
 * passes for a while. Then it is half open: some requests pass as probes, as many as it takes to
 * close it if all are good, so that one round of reads brings a node back. A bad one opens it for up
 * to twice as long. What is too slow to be of use is reported as a failure, and so is what turned
 * out to be wrong bytes.
 */

import { type BackOff, backOffMs } from '../../base/retry.ts';

export interface BreakerOptions {
  /** A monotonic clock. */
  nowMs: () => number;
  /** 0 to below 1. */
  random: () => number;
  /** Good ones that close it, and as many at once; 3 unless told. */
  probesInARow?: number;
  /** Of requests that are under way together one failure is consecutive: one bad moment fails them all. */
  failTogether?: boolean;
}

export type BreakerState = 'closed' | 'open' | 'half-open';

/** `unknown`: it was not asked after all, or what it did says nothing about it. */
export type Outcome = 'good' | 'bad' | 'unknown';

const consecutiveFailuresMax = 5;
/** Of the latest so many outcomes, as soon as there are enough, less than half may be bad. */
const windowOutcomes = 40;
const probesInARowDefault = 3;
/** Twice what is waited at least: half of each wait is the same for all, the rest is chance. */
const probeBackOff: BackOff = { waitFirstMs: 200, waitMaxMs: 15_000 };

export class CircuitBreaker {
  readonly #options: BreakerOptions;
  readonly #probesInARow: number;
  /** The latest outcomes while closed: true is bad. */
  #window: boolean[] = [];
  #consecutiveFailures = 0;
  /** Requests that have begun, and how many of these had when the latest failure was told. */
  #begun = 0;
  #begunAtFailure = 0;
  /** Times that it opened since it was last closed. */
  #openings = 0;
  #openUntilMs = 0;
  #probing = 0;
  #goodProbes = 0;
  #opened = 0;

  constructor(options: BreakerOptions) {
    this.#options = options;
    this.#probesInARow = options.probesInARow ?? probesInARowDefault;
  }

  get state(): BreakerState {
    if (this.#openings === 0) return 'closed';
    return this.#options.nowMs() < this.#openUntilMs ? 'open' : 'half-open';
  }

  /** Times that it went from closed to open. */
  get opened(): number {
    return this.#opened;
  }

  /** Times that probes found it as bad as before, since it opened. */
  get failedProbes(): number {
    return Math.max(0, this.#openings - 1);
  }

  /** Whether a request would pass now. */
  get passes(): boolean {
    const { state } = this;
    const isProbed = this.#probing + this.#goodProbes >= this.#probesInARow;
    return state === 'closed' || (state === 'half-open' && !isProbed);
  }

  /** For a request that is sent now; its outcome must be told, once. Undefined if none may pass. */
  begin(): ((outcome: Outcome) => void) | undefined {
    if (!this.passes) return undefined;
    if (this.#openings > 0) {
      this.#probing++;
      const opening = this.#openings;
      return outcome => {
        this.#probing--;
        // Those that began together end one by one: the first bad one speaks for all.
        if (opening === this.#openings) this.#endProbe(outcome);
      };
    }
    const serial = ++this.#begun;
    return outcome => this.#end(outcome, serial);
  }

  #end(outcome: Outcome, serial: number): void {
    // One that began before it opened is no probe.
    if (outcome === 'unknown' || this.#openings > 0) return;
    const isBad = outcome === 'bad';
    if (!isBad) this.#consecutiveFailures = 0;
    else if (serial > this.#begunAtFailure || this.#options.failTogether !== true) {
      this.#consecutiveFailures++;
      this.#begunAtFailure = this.#begun;
    }
    this.#window.push(isBad);
    if (this.#window.length > windowOutcomes) this.#window.shift();
    const bad = this.#window.filter(Boolean).length;
    const isOften = this.#window.length === windowOutcomes && 2 * bad >= windowOutcomes;
    if (this.#consecutiveFailures < consecutiveFailuresMax && !isOften) return;
    this.#opened++;
    this.#open();
  }

  #endProbe(outcome: Outcome): void {
    if (outcome === 'bad') this.#open();
    else if (outcome === 'good' && ++this.#goodProbes === this.#probesInARow) this.#close();
  }

  #open(): void {
    const retry = ++this.#openings;
    this.#goodProbes = 0;
    const longest = { retry, askedMs: 0, random: 1 };
    const waitMs = backOffMs(probeBackOff, longest) * (0.5 + this.#options.random() / 2);
    this.#openUntilMs = this.#options.nowMs() + waitMs;
  }

  #close(): void {
    this.#openings = 0;
    this.#consecutiveFailures = 0;
    this.#window = [];
    this.#goodProbes = 0;
  }
}
