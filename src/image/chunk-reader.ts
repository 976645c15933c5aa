/**
 * Sealed chunk → decoded bytes, once however many wait for it: memory, then the tiers, then decrypt
 * and decompress. A cache's copy that turns out torn is dropped and the next tier is asked once.
 */

import type { ChunkId } from '../base/digest.ts';
import { ImgstoreError } from '../base/errors.ts';
import { Limiter } from '../base/limiter.ts';
import type { ChunkSource, SealedHit } from '../cache/chunk-source.ts';
import type { ChunkSegment } from '../recipe/recipe.ts';
import { openChunk } from '../seal/seal.ts';
import type { DecodedCache } from './decoded-cache.ts';

/** What one disk's reads cost; `hits` counts chunk look-ups by where they were answered. */
export interface ReadCounters {
  reads: number;
  bytesRead: number;
  readErrors: number;
  /** From the store, over the network or from its disk: not from a cache of this worker. */
  chunksFetched: number;
  storedBytesFetched: number;
  hits: Map<string, number>;
}

export function newReadCounters(): ReadCounters {
  return {
    reads: 0,
    bytesRead: 0,
    readErrors: 0,
    chunksFetched: 0,
    storedBytesFetched: 0,
    hits: new Map(),
  };
}

interface Flight {
  key: Buffer;
  done: Promise<Buffer>;
}

export class ChunkReader {
  readonly #source: ChunkSource;
  readonly #decoded: DecodedCache;
  readonly #flights = new Map<ChunkId, Flight>();
  readonly #limiter: Limiter;

  /** `chunksInFlightMax` bounds sealed and plain bytes held at once, and work in the pool. */
  constructor(source: ChunkSource, decoded: DecodedCache, options: { chunksInFlightMax: number }) {
    this.#source = source;
    this.#decoded = decoded;
    this.#limiter = new Limiter(options.chunksInFlightMax);
  }

  /** The chunk's plain bytes if they are in memory. */
  peek(segment: ChunkSegment, counters: ReadCounters): Buffer | undefined {
    const plain = this.#decoded.get(segment.id, segment.key);
    if (plain !== undefined) count(counters, 'memory');
    return plain;
  }

  /** The chunk's plain bytes. Errors: NOT_FOUND in no tier, CORRUPT everywhere, the tier's own. */
  async read(segment: ChunkSegment, counters: ReadCounters): Promise<Buffer> {
    const flight = this.#flights.get(segment.id);
    if (flight?.key.equals(segment.key)) {
      count(counters, 'in-flight');
      return flight.done;
    }
    const done = this.#limiter.run(() => this.#fetch(segment, counters));
    if (flight !== undefined) return done; // another key for the same id: never shared
    this.#flights.set(segment.id, { key: segment.key, done });
    try {
      return await done;
    } finally {
      this.#flights.delete(segment.id);
    }
  }

  get chunksInFlight(): number {
    return this.#flights.size;
  }

  async #fetch(segment: ChunkSegment, counters: ReadCounters): Promise<Buffer> {
    const first = await this.#ask(segment, counters);
    let plain: Buffer;
    try {
      plain = await openChunk(first.sealed, segment);
    } catch (error) {
      const torn = error instanceof ImgstoreError && error.code === 'CORRUPT' && !first.verified;
      if (!torn) throw error;
      await this.#source.drop(segment.id);
      const second = await this.#ask(segment, counters);
      plain = await openChunk(second.sealed, segment);
    }
    this.#decoded.set(segment.id, segment.key, plain);
    return plain;
  }

  async #ask(segment: ChunkSegment, counters: ReadCounters): Promise<SealedHit> {
    const hit = await this.#source.get(segment.id, { sizeBytes: segment.sealedSizeBytes });
    if (hit === undefined) {
      throw new ImgstoreError('NOT_FOUND', `Cannot find chunk ${segment.id}: no tier has it`, {
        hint: 'Run imgstore verify on the image, and push it again.',
      });
    }
    count(counters, hit.tier);
    if (hit.tier === 'store') {
      counters.chunksFetched++;
      counters.storedBytesFetched += hit.sealed.length;
    }
    return hit;
  }
}

function count(counters: ReadCounters, tier: string): void {
  counters.hits.set(tier, (counters.hits.get(tier) ?? 0) + 1);
}
