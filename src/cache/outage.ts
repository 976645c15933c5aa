/**
 * Where gets wait while a tier does not answer. Few of them ask it, as probes: one a second, so that
 * a tier that comes up again is not held down. The others wait until it answers, or for a bounded
 * time: whoever reads many things one after the other must not wait long for each.
 *
 * Nothing runs when nobody waits, but probes that were begun: each asks as long as any get would,
 * longer than most wait, and what it learns is for all.
 */

import { ImgstoreError } from '../base/errors.ts';

export interface Time {
  /** A monotonic clock. */
  nowMs(): number;
  /** Calls it once, unless the answer is called before. */
  startTimer(waitMs: number, run: () => void): () => void;
  /** 0 to below 1. */
  random(): number;
}

export interface OutageOptions<V> {
  /** When the first get that failed began. */
  beganMs: number;
  error: ImgstoreError;
  /** Is told what a probe gave, after the one who waits for it. */
  learn: (outcome: V) => void;
  time: Time;
}

export interface WaitOptions {
  /** "Cannot <do> <what>", without a colon. */
  what: string;
  arrivedMs: number;
  signal: AbortSignal | undefined;
}

interface Waiter {
  readonly probe: () => void;
  /** It should ask anew. */
  readonly release: () => void;
}

/** Who comes later waits so long for the tier to answer. */
const waitMs = 1000;
/** And so long who comes early: as long as a get tries it, so that a short outage fails nothing. */
const waitFirstMs = 15_000;
/** One probe begins after the other in once to one and a half times this. */
const probeEveryMs = 1000;
const probesAtOnceMax = 4;

export class Outage<V> {
  readonly beganMs: number;
  readonly #time: Time;
  readonly #learn: (outcome: V) => void;
  #error: ImgstoreError;
  /** In order of arrival: those who are no probe. */
  readonly #idle = new Set<Waiter>();
  readonly #waiting = new Set<Waiter>();
  readonly #probes = new Map<Promise<unknown>, AbortController>();
  #probeDueMs: number;
  #cancelTimer: (() => void) | undefined;

  constructor({ beganMs, error, learn, time }: OutageOptions<V>) {
    this.beganMs = beganMs;
    this.#time = time;
    this.#error = error;
    this.#learn = learn;
    this.#probeDueMs = this.#afterProbe();
  }

  get error(): ImgstoreError {
    return this.#error;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** The latest error is the one to be told. */
  failed(error: ImgstoreError): void {
    this.#error = error;
  }

  /**
   * Undefined when the tier answered somebody: it is worth asking anew. If this one is to be a probe,
   * `ask` is called, which does not reject, and what it gives is the answer; it goes on if that comes
   * too late, and is aborted if this one gives up. Errors: the signal's reason, UNAVAILABLE after the
   * wait.
   */
  wait(
    ask: (signal: AbortSignal) => Promise<V | undefined>,
    { what, arrivedMs, signal }: WaitOptions,
  ): Promise<V | undefined> {
    const { promise, resolve, reject } = Promise.withResolvers<V | undefined>();
    const untilMs = Math.max(arrivedMs + waitMs, this.beganMs + waitFirstMs);
    let abort: AbortController | undefined;
    const leave = () => {
      cancelTimer();
      signal?.removeEventListener('abort', onAbort);
      this.#idle.delete(waiter);
      this.#waiting.delete(waiter);
    };
    const onAbort = () => {
      leave();
      abort?.abort(signal!.reason);
      reject(signal!.reason);
    };
    const cancelTimer = this.#time.startTimer(Math.max(0, untilMs - this.#time.nowMs()), () => {
      leave();
      reject(this.#failure(what));
    });
    const probe = () => {
      abort = new AbortController();
      const asking = ask(abort.signal);
      this.#probes.set(asking, abort);
      asking.then(outcome => {
        leave();
        this.#probes.delete(asking);
        resolve(outcome);
        if (outcome !== undefined) this.#learn(outcome);
        this.#probeIfDue();
      });
    };
    const release = () => {
      leave();
      resolve(undefined);
    };
    const waiter: Waiter = { probe, release };
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#idle.add(waiter);
    this.#waiting.add(waiter);
    this.#probeIfDue();
    return promise;
  }

  /** The tier answered: all who wait should ask anew. */
  release(): void {
    this.#stopTimer();
    for (const waiter of [...this.#waiting]) waiter.release();
  }

  /** Aborts probes that are under way and waits for them. */
  async close(reason: Error): Promise<void> {
    this.#stopTimer();
    for (const abort of this.#probes.values()) abort.abort(reason);
    await Promise.all(this.#probes.keys());
  }

  #stopTimer(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  #probeIfDue(): void {
    const [first] = this.#idle;
    if (first === undefined || this.#probes.size >= probesAtOnceMax) return;
    const dueInMs = this.#probeDueMs - this.#time.nowMs();
    if (dueInMs <= 0) {
      this.#probeDueMs = this.#afterProbe();
      this.#idle.delete(first);
      first.probe();
      this.#probeIfDue();
      return;
    }
    this.#cancelTimer ??= this.#time.startTimer(dueInMs, () => {
      this.#cancelTimer = undefined;
      this.#probeIfDue();
    });
  }

  #afterProbe(): number {
    return this.#time.nowMs() + probeEveryMs * (1 + this.#time.random() / 2);
  }

  #failure(what: string): ImgstoreError {
    const seconds = Math.round((this.#time.nowMs() - this.beganMs) / 1000);
    const state = `it has not answered for ${seconds} s`;
    return new ImgstoreError('UNAVAILABLE', `${what}: ${state}: ${this.#error.message}`, {
      hint: `It is asked again and again; reads work when it answers. ${this.#error.hint ?? ''}`.trim(),
      cause: this.#error,
    });
  }
}
