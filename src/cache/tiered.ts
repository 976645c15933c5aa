/**
 * Several tiers as one source: asked from the nearest to the farthest; what a farther one has is
 * offered to the nearer ones after the answer.
 *
 * Invariants: all but the last are caches, whose faults never fail a read: one line in the log when
 * a cache starts to fail and one when it works again, and the next tier is asked. Not so a prefetch
 * that a tier sheds: it ends, or full caches would send what nobody waits for to the store. Only
 * bytes that were compared with their id are offered, so that no tier can poison another.
 */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { assert } from '../base/assert.ts';
import type { ChunkId } from '../base/digest.ts';
import { describeError, ImgstoreError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { ChunkSource, GetOptions, SealedHit } from './chunk-source.ts';
import { PrefetchShed } from './prefetch.ts';

export function tiered(tiers: readonly ChunkSource[], options: { log: Log }): ChunkSource {
  return new TieredSource(tiers, options.log);
}

class TieredSource implements ChunkSource {
  readonly tier: string;
  readonly #caches: readonly ChunkSource[];
  readonly #last: ChunkSource;
  readonly #log: Log;
  readonly #failing = new Set<ChunkSource>();
  readonly #offers = new Set<Promise<void>>();

  constructor(tiers: readonly ChunkSource[], log: Log) {
    const last = tiers.at(-1);
    assert(last !== undefined, 'there is at least one tier');
    this.#caches = tiers.slice(0, -1);
    this.#last = last;
    this.#log = log;
    this.tier = tiers.map(tier => tier.tier).join('+');
  }

  async get(id: ChunkId, options: GetOptions): Promise<SealedHit | undefined> {
    for (const [depth, cache] of this.#caches.entries()) {
      const hit = await this.#ask(cache, id, options);
      if (hit !== undefined) return this.#answer(id, hit, depth);
    }
    await options.onLowest?.();
    const hit = await this.#last.get(id, options);
    return hit && this.#answer(id, hit, this.#caches.length);
  }

  async put(id: ChunkId, sealed: Buffer): Promise<void> {
    await Promise.all([...this.#caches, this.#last].map(tier => tier.put(id, sealed)));
  }

  /** One worker's torn copy must not cost the others those of a shared tier. */
  async drop(id: ChunkId, tier?: string): Promise<void> {
    const all = [...this.#caches, this.#last];
    const own = all.filter(source => source.tier === tier);
    await Promise.all((own.length > 0 ? own : all).map(source => source.drop(id, tier)));
  }

  async close(): Promise<void> {
    await Promise.all(this.#offers);
    for (const tier of [...this.#caches, this.#last]) await tier.close();
  }

  async #ask(cache: ChunkSource, id: ChunkId, options: GetOptions) {
    try {
      const hit = await cache.get(id, options);
      if (this.#failing.delete(cache)) this.#log('info', `Cache tier ${cache.tier} works again`);
      return hit;
    } catch (error) {
      options.signal?.throwIfAborted();
      if (error instanceof PrefetchShed) throw error;
      this.#passOver(cache, error);
      return undefined;
    }
  }

  #passOver(cache: ChunkSource, error: unknown): void {
    if (!(error instanceof ImgstoreError)) throw error;
    if (this.#failing.has(cache)) return;
    this.#failing.add(cache);
    this.#log('warn', `Cache tier ${cache.tier} is passed over: ${describeError(error)}`);
  }

  #answer(id: ChunkId, hit: SealedHit, depth: number): SealedHit {
    if (depth > 0 && hit.verified) {
      const offer = this.#offer(id, hit.sealed, depth);
      this.#offers.add(offer);
      offer.finally(() => this.#offers.delete(offer));
    }
    return hit;
  }

  /** Each cache bounds what it holds on to; it declines the rest at once. */
  async #offer(id: ChunkId, sealed: Buffer, depth: number): Promise<void> {
    await nextTurn();
    await Promise.all(this.#caches.slice(0, depth).map(cache => cache.put(id, sealed)));
  }
}
