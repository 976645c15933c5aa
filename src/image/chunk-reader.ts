/**
 * Sealed chunk → decoded bytes, once however many wait for it: memory, then the tiers, then decrypt
 * and decompress. A cache's copy that turns out torn is dropped and the next tier is asked once.
 *
 * Invariants: nobody gets bytes, or the failure, of a chunk for which others state another key or
 * other sizes. Bytes held are bounded by the chunks in flight: those that wait for a place hold
 * none, and a read that waits for one of its chunks holds at most that chunk's neighbours. Reads
 * pass prefetches, and a prefetch that a read joins is a read. What caches have does not wait behind
 * what only the lowest tier has, which may not answer.
 */

import { timingSafeEqual } from 'node:crypto';
import type { ChunkId } from '../base/digest.ts';
import { ImgstoreError } from '../base/errors.ts';
import { Histogram } from '../base/histogram.ts';
import { Admission, type Place } from '../cache/admission.ts';
import type { ChunkSource, GetOptions, SealedHit } from '../cache/chunk-source.ts';
import { Overdue } from '../cache/overdue.ts';
import { fly, Prefetch } from '../cache/prefetch.ts';
import type { ChunkSegment } from '../recipe/recipe.ts';
import { chunkIdOf, openChunk } from '../seal/seal.ts';
import type { DecodedCache } from './decoded-cache.ts';
import type { ChunkTrace } from './read-trace.ts';

/** What one disk's reads cost; `hits` counts chunk look-ups by where they were answered. */
export interface ReadCounters {
  reads: number;
  /** Asked for, within the disk. */
  bytesRead: number;
  /** Reads that failed. */
  readErrors: number;
  /** From the store, over the network or from its disk: not from a cache of this worker. */
  chunksFetched: number;
  storedBytesFetched: number;
  hits: Map<string, number>;
  /** Of all reads, failed or not; none for those that memory answered. */
  readTimes: Histogram;
  /** Of reads' look-ups that memory did not answer: by tier, `in-flight` or `failed`. */
  lookupTimes: Map<string, Histogram>;
}

export function newReadCounters(): ReadCounters {
  return {
    reads: 0,
    bytesRead: 0,
    readErrors: 0,
    chunksFetched: 0,
    storedBytesFetched: 0,
    hits: new Map(),
    readTimes: new Histogram(),
    lookupTimes: new Map(),
  };
}

interface Flight {
  readonly segment: ChunkSegment;
  readonly done: Promise<Buffer>;
  /** The counters of the disks that wait for it. */
  readonly waiting: Set<ReadCounters>;
  readonly prefetch: Prefetch | undefined;
  readonly abort: AbortController;
  /** Known when a tier has answered. */
  tier: string | undefined;
}

type Asking = Omit<GetOptions, 'sizeBytes'>;

/**
 * Far beyond all waits that tiers allow themselves, also where a slow link has a queue: whatever goes
 * wrong, the kernel gets an answer, since a process that waits for it cannot be killed.
 */
const readWaitMaxMs = 5 * 60_000;

/** For their turn: small, and given up with their mounts. Those of 64 mounts that begin at once. */
const prefetchesWaitingMax = 256;

export class ChunkReader {
  readonly #source: ChunkSource;
  readonly #decoded: DecodedCache;
  readonly #flights = new Set<Flight>();
  /** Of these the first of each chunk, which others may join. */
  readonly #shared = new Map<ChunkId, Flight>();
  /** To the caches. */
  readonly #admission: Admission;
  /** To the lowest tier: from then on a flight has its place here and not there. */
  readonly #lowestAdmission: Admission;
  readonly #overdue = new Overdue(readWaitMaxMs);

  /**
   * `chunksInFlightMax` bounds sealed and plain bytes held at once, and work in the pool: so many
   * chunks that caches may have, and as many that they have not. A quarter of each may be prefetches.
   */
  constructor(source: ChunkSource, decoded: DecodedCache, options: { chunksInFlightMax: number }) {
    this.#source = source;
    this.#decoded = decoded;
    const bounds = {
      atOnceMax: options.chunksInFlightMax,
      prefetchAtOnceMax: Math.floor(options.chunksInFlightMax / 4),
      prefetchWaitingMax: prefetchesWaitingMax,
    };
    this.#admission = new Admission(bounds);
    this.#lowestAdmission = new Admission(bounds);
  }

  /** The chunk's plain bytes if they are in memory. */
  peek(segment: ChunkSegment, counters: ReadCounters): Buffer | undefined {
    const plain = this.#decoded.get(segment);
    if (plain !== undefined) count(counters, 'memory');
    return plain;
  }

  /**
   * The chunk's plain bytes. Errors: NOT_FOUND in no tier, CORRUPT everywhere, the tier's own, and the
   * reason with which the last disk that waited gave up. UNAVAILABLE after five minutes, whatever
   * goes on.
   */
  async read(segment: ChunkSegment, counters: ReadCounters, trace?: ChunkTrace): Promise<Buffer> {
    const startedMs = performance.now();
    const other = this.#shared.get(segment.id);
    const joined = other !== undefined && isSameChunk(other.segment, segment);
    if (joined) {
      count(counters, 'in-flight');
      other.waiting.add(counters);
      other.prefetch?.want();
    }
    const flight = joined ? other : this.#depart(segment, counters, undefined);
    try {
      const plain = await this.#overdue.watch(flight.done, () => unanswered(segment));
      observe(counters, joined ? 'in-flight' : flight.tier!, performance.now() - startedMs);
      trace?.end({ tier: flight.tier, joined });
      return plain;
    } catch (error) {
      observe(counters, 'failed', performance.now() - startedMs);
      trace?.end({ tier: undefined, joined, error });
      throw error;
    }
  }

  /**
   * Brings a chunk into memory that may be read soon, unless it is there or on its way; reads that
   * come meanwhile join. False if it could not be had, or not now; it never rejects.
   */
  async prefetch(segment: ChunkSegment, counters: ReadCounters): Promise<boolean> {
    if (this.#shared.has(segment.id) || this.#decoded.get(segment) !== undefined) return true;
    const { done } = this.#depart(segment, counters, new Prefetch());
    return done.then(
      () => true,
      () => false,
    );
  }

  /** The disk of these counters is gone: what nobody else waits for is not fetched any more. */
  abandon(counters: ReadCounters, reason: Error): void {
    for (const flight of this.#flights) {
      const { waiting, abort } = flight;
      if (!waiting.delete(counters) || waiting.size > 0) continue;
      // Who comes now must not board a flight that is coming down.
      this.#end(flight);
      abort.abort(reason);
    }
  }

  get chunksInFlight(): number {
    return this.#flights.size;
  }

  #depart(segment: ChunkSegment, counters: ReadCounters, prefetch: Prefetch | undefined): Flight {
    const { id } = segment;
    const abort = new AbortController();
    const { signal } = abort;
    const ask = async (unlessWanted: Prefetch | undefined) => {
      const asking = { signal, prefetch: unlessWanted };
      let place: Place | undefined = await this.#admission.acquire(asking);
      const onLowest = async () => {
        place?.release();
        place = undefined;
        place = await this.#lowestAdmission.acquire(asking);
      };
      try {
        return await this.#fetch(segment, { ...asking, onLowest }, onHit);
      } finally {
        place?.release();
      }
    };
    const onHit = ({ tier, sealed }: SealedHit) => {
      flight.tier = tier;
      count(counters, tier);
      if (tier !== 'store') return;
      counters.chunksFetched++;
      counters.storedBytesFetched += sealed.length;
    };
    const done = fly(prefetch, ask, () => this.#end(flight));
    // What tiers hold for the answer, as the lease on a chunk, is of no use any more.
    done.catch((reason: unknown) => abort.abort(reason));
    const waiting = new Set([counters]);
    const flight: Flight = { segment, done, waiting, prefetch, abort, tier: undefined };
    this.#flights.add(flight);
    // One for which others state another key or size flies alone.
    if (!this.#shared.has(id)) this.#shared.set(id, flight);
    return flight;
  }

  /** Nobody joins it any more. */
  #end(flight: Flight): void {
    const { id } = flight.segment;
    this.#flights.delete(flight);
    if (this.#shared.get(id) === flight) this.#shared.delete(id);
  }

  async #fetch(
    segment: ChunkSegment,
    options: Asking,
    onHit: (hit: SealedHit) => void,
  ): Promise<Buffer> {
    const hit = await this.#ask(segment, options);
    onHit(hit);
    let plain: Buffer;
    try {
      plain = await openChunk(hit.sealed, segment);
    } catch (error) {
      // Bytes that fit their id are not torn: the recipe is wrong, and the copy is good for others.
      if (hit.verified || chunkIdOf(hit.sealed) === segment.id) throw error;
      await this.#source.drop(segment.id, hit.tier);
      const other = await this.#ask(segment, options);
      onHit(other);
      plain = await openChunk(other.sealed, segment);
    }
    this.#decoded.set(segment, plain);
    return plain;
  }

  async #ask(segment: ChunkSegment, options: Asking): Promise<SealedHit> {
    const sizeBytes = segment.sealedSizeBytes;
    const hit = await this.#source.get(segment.id, { sizeBytes, ...options });
    if (hit === undefined) {
      throw new ImgstoreError('NOT_FOUND', `Cannot find chunk ${segment.id}: no tier has it`, {
        hint: 'Run imgstore verify on the image; imgstore verify --repair --from its source mends the store.',
      });
    }
    return hit;
  }
}

function unanswered({ id }: ChunkSegment): ImgstoreError {
  const message = `Cannot read chunk ${id}: no answer in ${readWaitMaxMs / 1000} s`;
  return new ImgstoreError('UNAVAILABLE', message, {
    hint: 'imgstore stats --watch shows what the tiers wait for.',
  });
}

/** Of chunks with one id. */
function isSameChunk(a: ChunkSegment, b: ChunkSegment): boolean {
  return (
    a.plainSizeBytes === b.plainSizeBytes &&
    a.sealedSizeBytes === b.sealedSizeBytes &&
    timingSafeEqual(a.key, b.key)
  );
}

function count(counters: ReadCounters, tier: string): void {
  counters.hits.set(tier, (counters.hits.get(tier) ?? 0) + 1);
}

function observe({ lookupTimes }: ReadCounters, tier: string, durationMs: number): void {
  const times = lookupTimes.get(tier) ?? new Histogram();
  lookupTimes.set(tier, times);
  times.observe(durationMs);
}
