/**
 * A node of the fleet as reads and writes see it: its client behind its circuit breaker, and what is
 * counted of it. Nothing here rejects: a node that fails is one that has nothing.
 */

import type { ChunkId } from '../../base/digest.ts';
import { describeError, ImgstoreError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { type BreakerState, CircuitBreaker, type Outcome } from './breaker.ts';
import { MemcachedClient, type ReadAnswer, type ReadOptions, TimeOut } from './client.ts';
import type { FleetServer } from './fleet-config.ts';
import { doneMark } from './format.ts';
import type { FleetNode } from './placement.ts';
import type { Pulse } from './pulse.ts';
import type { WrongValue } from './shard.ts';

export interface NodeStats {
  name: string;
  breaker: BreakerState;
  /** Times that its breaker went from closed to open. */
  opened: number;
  asked: number;
  /** Shards of use, and misses. */
  answered: number;
  absent: number;
  /** Time-outs, lost connections, protocol violations, of reads and writes. */
  failed: number;
  wrong: Readonly<Record<WrongKind, number>>;
  stored: number;
  /** Writes that it did not take: no memory, or items above its limit (-I). */
  refused: number;
}

/** `lie`: a right checksum, but another shard than the chunk's. */
export type WrongKind = WrongValue | 'lie';

/** `timed out`, `failed`: it did not answer as it should. `busy`: it was not asked, or nobody answered. */
export type NodeAnswer = ReadAnswer | 'timed out' | 'failed' | 'busy';

export interface Asked {
  answer: Promise<NodeAnswer>;
  /** It failed before; whether it is well again is what is asked. Nobody should wait for it. */
  isProbe: boolean;
  /** To be called once, after the answer. */
  judge(outcome: Outcome): void;
}

export interface NodeOptions {
  log: Log;
  nowMs: () => number;
  random: () => number;
  /** Of the fleet. */
  pulse: Pulse;
}

export interface NoteOptions {
  lifetimeSeconds: number;
  timeoutMs: number;
}

/** `refused`: no memory. */
export type NoteAnswer = 'noted' | 'taken' | 'refused' | 'failed';
export type NotedState = 'free' | 'noted' | 'done' | 'failed';

const wrongLogIntervalMs = 60_000;
/** In a row: a second or so after it failed first. Shards that stand-ins get take work and room. */
const outAfterProbes = 3;

export class CacheNode implements FleetNode {
  readonly name: string;
  readonly weight: number;
  readonly domain: string;
  readonly #client: MemcachedClient;
  readonly #breaker: CircuitBreaker;
  /** Open while it refuses what it is to be given again. */
  readonly #repairs: CircuitBreaker;
  readonly #pulse: Pulse;
  readonly #log: Log;
  readonly #nowMs: () => number;
  readonly #counts = { asked: 0, answered: 0, absent: 0, failed: 0, stored: 0, refused: 0 };
  readonly #wrong: Record<WrongKind, number> = { unknown: 0, foreign: 0, damaged: 0, lie: 0 };
  #lastFault = '';
  #wrongLoggedMs = Number.NEGATIVE_INFINITY;

  constructor(server: FleetServer, { log, nowMs, random, pulse }: NodeOptions) {
    this.name = server.name;
    this.weight = server.weight;
    this.domain = server.domain;
    this.#client = new MemcachedClient({ host: server.host, port: server.port, nowMs, random });
    this.#breaker = new CircuitBreaker({ nowMs, random, failTogether: true });
    this.#repairs = new CircuitBreaker({ nowMs, random, probesInARow: 1 });
    this.#pulse = pulse;
    this.#log = log;
    this.#nowMs = nowMs;
  }

  /** Whether it may be read from now, if only as a probe. */
  get passes(): boolean {
    return this.#breaker.passes && !this.#isPointless;
  }

  /** Whether another node is to stand in for it: not as soon as it fails, nor when it is back. */
  get isOut(): boolean {
    return this.#breaker.failedProbes >= outAfterProbes;
  }

  /** Whether it is written to: not while it is on probation. */
  get takesWrites(): boolean {
    return this.#breaker.state === 'closed';
  }

  /** Undefined if it is not to be asked now. */
  ask(key: string, options: ReadOptions): Asked | undefined {
    const isProbe = this.#breaker.state !== 'closed';
    const end = this.#isPointless ? undefined : this.#breaker.begin();
    if (end === undefined) return undefined;
    this.#counts.asked++;
    const answer = this.#answerOf(() => this.#client.get(key, options)).then(answer =>
      this.#count(answer),
    );
    return { answer, isProbe, judge: outcome => this.#told(() => end(outcome)) };
  }

  /** Whether it took it. */
  async store(key: string, value: readonly Buffer[], timeoutMs: number): Promise<boolean> {
    let isStored = false;
    await this.#write(async () => {
      const outcome = await this.#client.set(key, value, { timeoutMs });
      this.#counts[outcome]++;
      isStored = outcome === 'stored';
    });
    return isStored;
  }

  /** Whether shards that it lacks should be stored again: not while it refuses them, if it is full. */
  get takesRepairs(): boolean {
    return this.takesWrites && this.#repairs.passes;
  }

  /** As `store`, for what it lacks; each attempt costs the encoding of a chunk. */
  async repair(key: string, value: readonly Buffer[], timeoutMs: number): Promise<boolean> {
    const end = this.#repairs.begin();
    if (end === undefined) return false;
    const isStored = await this.store(key, value, timeoutMs);
    end(isStored ? 'good' : 'bad');
    return isStored;
  }

  async remove(key: string, timeoutMs: number): Promise<void> {
    await this.#write(() => this.#client.delete(key, { timeoutMs }));
  }

  /** Notes the key for so long, if it was not noted. */
  async note(key: string, options: NoteOptions): Promise<NoteAnswer> {
    let answer: NoteAnswer = 'failed';
    await this.#write(async () => {
      const outcome = await this.#client.add(key, options);
      if (outcome === 'refused') this.#counts.refused++;
      answer = outcome === 'stored' ? 'noted' : outcome;
    });
    return answer;
  }

  /** What is noted there: also that it is done, if `markDone` said so. */
  async look(key: string, timeoutMs: number): Promise<NotedState> {
    let state: NotedState = 'failed';
    await this.#write(async () => {
      const value = await this.#client.get(key, { sizeMaxBytes: doneMark.length, timeoutMs });
      if (value === 'absent') state = 'free';
      else state = Buffer.isBuffer(value) && value.equals(doneMark) ? 'done' : 'noted';
    });
    return state;
  }

  /** What was noted is done; whoever looks within this time sees it. */
  async markDone(key: string, options: NoteOptions): Promise<void> {
    await this.#write(async () => void (await this.#client.set(key, [doneMark], options)));
  }

  /** The time of what was noted begins anew, if it is still there. */
  async renew(key: string, options: NoteOptions): Promise<void> {
    await this.#write(() => this.#client.touch(key, options));
  }

  countWrong(kind: WrongKind, id: ChunkId): void {
    this.#wrong[kind]++;
    this.#lastFault = `its shard of chunk ${id} is wrong (${kind})`;
    const nowMs = this.#nowMs();
    if (nowMs - this.#wrongLoggedMs < wrongLogIntervalMs) return;
    this.#wrongLoggedMs = nowMs;
    this.#log('warn', `Shared cache node ${this.name}: ${this.#lastFault}; it is replaced`);
  }

  close(): void {
    this.#client.close();
  }

  stats(): NodeStats {
    const { state, opened } = this.#breaker;
    return { name: this.name, breaker: state, opened, ...this.#counts, wrong: { ...this.#wrong } };
  }

  /** A write that works says little of reads, but one that fails says enough. */
  async #write(work: () => Promise<void>): Promise<void> {
    const end = this.#breaker.begin();
    if (end === undefined) return;
    const answer = await this.#answerOf(work);
    const isBad = answer === 'failed' || answer === 'timed out';
    if (isBad) this.#counts.failed++;
    this.#told(() => end(isBad ? 'bad' : 'unknown'));
  }

  /** A probe that does not get as far as the node says nothing of it. */
  get #isPointless(): boolean {
    return this.#breaker.state === 'half-open' && this.#client.isBackingOff;
  }

  #count(answer: NodeAnswer): NodeAnswer {
    if (answer === 'failed' || answer === 'timed out') this.#counts.failed++;
    else if (answer === 'absent') this.#counts.absent++;
    else if (answer !== 'busy') this.#counts.answered++;
    return answer;
  }

  async #answerOf<V>(work: () => Promise<V>): Promise<V | 'timed out' | 'failed' | 'busy'> {
    const sentMs = this.#pulse.sent();
    try {
      const answer = await work();
      this.#pulse.answered();
      return answer;
    } catch (error) {
      if (!(error instanceof ImgstoreError)) throw error;
      if (error.code === 'BUSY') return 'busy';
      this.#lastFault = describeError(error);
      if (!(error instanceof TimeOut)) return 'failed';
      return this.#pulse.excuses(sentMs) ? 'busy' : 'timed out';
    }
  }

  /** One line in the log when it is given up, and one when it is back. */
  #told(tell: () => void): void {
    const { opened, state } = this.#breaker;
    tell();
    const now = this.#breaker;
    if (now.opened > opened) {
      this.#log('warn', `Shared cache node ${this.name} is passed over: ${this.#lastFault}`);
    } else if (state !== 'closed' && now.state === 'closed') {
      this.#log('info', `Shared cache node ${this.name} works again`);
    }
  }
}
