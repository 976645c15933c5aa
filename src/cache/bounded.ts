/**
 * How many gets may reach a tier at once, so that cold caches do not become an outage of it, nor an
 * outage a storm: as many as the admission has places while it answers; one a second while it does
 * not (see outage.ts); then 2, 4, 8 …, for a thousand workers must not all come back at full
 * strength. The admission is for this tier alone.
 *
 * A get that is UNAVAILABLE, with all its retries, begins an outage, unless the tier answered another
 * one since it began: then one thing cannot be had, or the tier is slow. Any other fault is an answer.
 * In an outage nothing is prefetched.
 */

import type { ChunkId } from '../base/digest.ts';
import { describeError, ImgstoreError } from '../base/errors.ts';
import { type Log, silentLog } from '../base/log.ts';
import type { Admission } from './admission.ts';
import type { ChunkSource, GetOptions, SealedHit } from './chunk-source.ts';
import { Outage, type Time } from './outage.ts';
import { isUnwanted, PrefetchShed } from './prefetch.ts';

export interface BoundedOptions {
  /** Is told of outages, a line when one begins and one when it ends. */
  log?: Log;
  /** In messages: `the store s3://images`. */
  what?: string;
  time?: Time;
}

/** Of an outage that has not ended. */
export interface OutageStats {
  /** When the first get that failed began. */
  beganMs: number;
  /** The tier answers again, and places open one by one. */
  isRecovering: boolean;
  /** Gets that wait for the tier to answer. */
  waiting: number;
  /** The latest fault, for people. */
  reason: string;
}

export function bounded(
  source: ChunkSource,
  admission: Admission,
  options: BoundedOptions = {},
): BoundedSource {
  return new BoundedSource(source, admission, options);
}

/** What one get gave: `fault`, or else `hit`, which is undefined if the chunk is absent. */
interface Outcome {
  hit: SealedHit | undefined;
  fault?: { error: unknown; beganMs: number; isAborted: boolean };
}

/** Places open one by one since the tier answers again. */
interface Recovery {
  outage: Outage<Outcome>;
  /** Places, besides those of gets that were under way. */
  places: number;
  underWay: number;
  answers: number;
  stopTimer: () => void;
}

const recoveryPlacesMin = 2;
/** Where nobody waits, places cannot show that there may be more. */
const recoveryIdleMs = 5000;

const realTime: Time = {
  nowMs: () => performance.now(),
  startTimer(waitMs, run) {
    const timer = setTimeout(run, waitMs);
    return () => clearTimeout(timer);
  },
  random: Math.random,
};

export class BoundedSource implements ChunkSource {
  readonly tier: string;
  readonly #source: ChunkSource;
  readonly #admission: Admission;
  readonly #log: Log;
  readonly #what: string;
  readonly #time: Time;
  /** While nothing but probes may pass. */
  #outage: Outage<Outcome> | undefined;
  #recovery: Recovery | undefined;
  #answeredMs = Number.NEGATIVE_INFINITY;
  #outages = 0;

  constructor(source: ChunkSource, admission: Admission, options: BoundedOptions) {
    this.tier = source.tier;
    this.#source = source;
    this.#admission = admission;
    this.#log = options.log ?? silentLog;
    this.#what = options.what ?? `the tier ${source.tier}`;
    this.#time = options.time ?? realTime;
  }

  async get(id: ChunkId, options: GetOptions): Promise<SealedHit | undefined> {
    const arrivedMs = this.#time.nowMs();
    for (;;) {
      options.signal?.throwIfAborted();
      const outcome = await (this.#outage === undefined
        ? this.#pass(id, options)
        : this.#wait(this.#outage, id, options, arrivedMs));
      if (outcome?.fault !== undefined) throw outcome.fault.error;
      if (outcome !== undefined) return outcome.hit;
    }
  }

  /** Outages that have begun. */
  get outages(): number {
    return this.#outages;
  }

  /** Undefined while all is well. */
  get outage(): OutageStats | undefined {
    const outage = this.#outage ?? this.#recovery?.outage;
    if (outage === undefined) return undefined;
    const { beganMs, waiting, error } = outage;
    const isRecovering = this.#outage === undefined;
    return { beganMs, isRecovering, waiting, reason: describeError(error) };
  }

  put(id: ChunkId, sealed: Buffer): Promise<void> {
    return this.#source.put(id, sealed);
  }

  drop(id: ChunkId, tier?: string): Promise<void> {
    return this.#source.drop(id, tier);
  }

  async close(): Promise<void> {
    this.#recovery?.stopTimer();
    const outage = this.#outage ?? this.#recovery?.outage;
    await outage?.close(new Error('the source is closed'));
    await this.#source.close();
  }

  /** Undefined: to be tried anew, since an outage began meanwhile. */
  async #pass(id: ChunkId, options: GetOptions): Promise<Outcome | undefined> {
    using _place = await this.#admission.acquire(options);
    // The get that failed gave its place back, and so do all who waited for one, in turn.
    if (this.#outage !== undefined) return undefined;
    const outcome = await this.#ask(id, options);
    this.#learn(outcome);
    return outcome;
  }

  /** Undefined: to be tried anew, since the outage ended. */
  async #wait(
    outage: Outage<Outcome>,
    id: ChunkId,
    options: GetOptions,
    arrivedMs: number,
  ): Promise<Outcome | undefined> {
    if (isUnwanted(options.prefetch)) throw new PrefetchShed(`${this.#what} does not answer`);
    const probe = async (signal: AbortSignal) => {
      // Gets that began before the outage may hold all places for a while.
      using place = await this.#admission.acquire({ signal }).catch(() => undefined);
      if (place === undefined || this.#outage !== outage) return undefined;
      return await this.#ask(id, { ...options, signal });
    };
    const what = `Cannot get chunk ${id} from ${this.#what}`;
    return outage.wait(probe, { what, arrivedMs, signal: options.signal });
  }

  async #ask(id: ChunkId, options: GetOptions): Promise<Outcome> {
    const beganMs = this.#time.nowMs();
    try {
      return { hit: await this.#source.get(id, options) };
    } catch (error) {
      const isAborted = options.signal?.aborted === true;
      return { hit: undefined, fault: { error, beganMs, isAborted } };
    }
  }

  #learn({ fault }: Outcome): void {
    if (fault === undefined) {
      this.#answered();
      return;
    }
    const { error, beganMs, isAborted } = fault;
    // Bugs, and what was not asked to the end, say nothing about the tier.
    if (isAborted || !(error instanceof ImgstoreError) || error instanceof PrefetchShed) return;
    if (error.code !== 'UNAVAILABLE') this.#answered();
    else if (this.#answeredMs <= beganMs) this.#failed(error, beganMs);
  }

  #failed(error: ImgstoreError, beganMs: number): void {
    if (this.#outage !== undefined) {
      this.#outage.failed(error);
      return;
    }
    if (this.#recovery === undefined) {
      this.#outages++;
      this.#log('warn', `${capital(this.#what)} does not answer: ${describeError(error)}`);
      const learn = (outcome: Outcome) => this.#learn(outcome);
      this.#outage = new Outage({ beganMs, error, learn, time: this.#time });
    } else {
      this.#recovery.stopTimer();
      this.#outage = this.#recovery.outage;
      this.#outage.failed(error);
      this.#recovery = undefined;
    }
    this.#admission.limit(this.#admission.atOnceMax);
  }

  #answered(): void {
    this.#answeredMs = this.#time.nowMs();
    const recovery = this.#recovery;
    if (this.#outage !== undefined) this.#recover(this.#outage);
    else if (recovery !== undefined && ++recovery.answers >= recovery.places) {
      recovery.places *= 2;
      recovery.answers = 0;
      this.#open(recovery);
    }
  }

  #recover(outage: Outage<Outcome>): void {
    const underWay = this.#admission.running;
    const recovery: Recovery = {
      outage,
      places: recoveryPlacesMin,
      underWay,
      answers: 0,
      stopTimer: () => {},
    };
    const endIfIdle = () => {
      if (this.#admission.demandWaiting === 0) this.#end(recovery);
      else recovery.stopTimer = this.#time.startTimer(recoveryIdleMs, endIfIdle);
    };
    recovery.stopTimer = this.#time.startTimer(recoveryIdleMs, endIfIdle);
    this.#outage = undefined;
    this.#recovery = recovery;
    this.#open(recovery);
    outage.release();
  }

  #open(recovery: Recovery): void {
    const { places, underWay } = recovery;
    if (places >= this.#admission.atOnceMax) this.#end(recovery);
    else this.#admission.limit(Math.min(places + underWay, this.#admission.atOnceMax));
  }

  #end({ outage, stopTimer }: Recovery): void {
    stopTimer();
    this.#recovery = undefined;
    this.#admission.limit(this.#admission.atOnceMax);
    const seconds = Math.round((this.#time.nowMs() - outage.beganMs) / 1000);
    this.#log('info', `${capital(this.#what)} answers again after ${seconds} s`);
  }
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
