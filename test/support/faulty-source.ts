/**
 * A chunk source that misbehaves as told: before each get, `plan` says how. Behind it stands a
 * source that works. What is not aborted waits until `release` is called, if the plan is to hold.
 */

import type { ChunkId } from '../../src/base/digest.ts';
import { ImgstoreError } from '../../src/base/errors.ts';
import type { ChunkSource, GetOptions, SealedHit } from '../../src/cache/chunk-source.ts';

export type Behaviour =
  /** As the source behind. */
  | 'work'
  /** A fault: the tier does not answer. */
  | 'fault'
  /** An error that is a bug, not a fault. */
  | 'bug'
  /** Absence, whatever there is. */
  | 'miss'
  /** The right size, one bit of another value. */
  | 'flip'
  /** No answer until it is released or aborted; then as the source behind. */
  | 'hold';

export class FaultySource implements ChunkSource {
  readonly tier: string;
  plan: () => Behaviour;
  /** Gets that have begun and not ended. */
  running = 0;
  runningMost = 0;
  gets = 0;
  /** Of each get. */
  readonly asked: GetOptions[] = [];
  /** Of gets whose signal was aborted while they were held. */
  readonly abortReasons: unknown[] = [];
  readonly #inner: ChunkSource;
  readonly #held: (() => void)[] = [];

  constructor(inner: ChunkSource, plan: Behaviour | (() => Behaviour)) {
    this.#inner = inner;
    this.tier = inner.tier;
    this.plan = typeof plan === 'string' ? () => plan : plan;
  }

  async get(id: ChunkId, options: GetOptions): Promise<SealedHit | undefined> {
    this.gets++;
    this.asked.push(options);
    this.runningMost = Math.max(this.runningMost, ++this.running);
    try {
      return await this.#get(id, options);
    } finally {
      this.running--;
    }
  }

  async put(id: ChunkId, sealed: Buffer): Promise<void> {
    await this.#inner.put(id, sealed);
  }

  async drop(id: ChunkId): Promise<void> {
    await this.#inner.drop(id);
  }

  async close(): Promise<void> {
    await this.#inner.close();
  }

  release(): void {
    for (const go of this.#held.splice(0)) go();
  }

  async #get(id: ChunkId, options: GetOptions): Promise<SealedHit | undefined> {
    const behaviour = this.plan();
    if (behaviour === 'hold') await this.#hold(options.signal);
    if (behaviour === 'bug') throw new TypeError('a bug of the source');
    if (behaviour === 'miss') return undefined;
    if (behaviour === 'fault') {
      throw new ImgstoreError('UNAVAILABLE', `Cannot ask ${this.tier}: it does not answer`);
    }
    const hit = await this.#inner.get(id, options);
    if (hit === undefined || behaviour !== 'flip') return hit;
    const sealed = Buffer.from(hit.sealed);
    const middle = sealed.length >> 1;
    sealed[middle] = sealed[middle]! ^ 1;
    return { ...hit, sealed };
  }

  #hold(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#held.push(resolve);
      signal?.addEventListener('abort', () => {
        this.abortReasons.push(signal.reason);
        reject(signal.reason);
      });
    });
  }
}
