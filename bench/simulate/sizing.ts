/**
 * How large the caches have to be. The same starts are replayed over caches of many sizes, with no
 * time in between: L1 by the worker's CacheIndex, on some of the workers; L2 as one LRU list of whole
 * chunks that every start asks for all it reads (what L1 answers is in L2 as well, and recent there).
 */

import { CacheIndex } from '../../src/cache/cache-index.ts';
import { Random } from '../../test/support/random.ts';
import { RecencyLists } from './recency.ts';
import { Placing } from './simulation.ts';
import { Uploads } from './uploads.ts';
import type { ChunkNumber, Popularity, World } from './world.ts';

export interface WorkerSizing {
  readonly workers: number;
  /** Of these the caches are replayed. */
  readonly workersSampled: number;
  readonly sizesBytes: readonly number[];
  /** Of each worker; those of the last third count. */
  readonly starts: number;
  readonly affinity: number;
  readonly seed: number;
}

/** The share of reads that L1 answers, by size. */
export function workerShares(world: World, popularity: Popularity, sizing: WorkerSizing): number[] {
  const { workers, workersSampled, sizesBytes, starts, affinity } = sizing;
  const random = new Random(sizing.seed);
  const placing = new Placing(popularity, workers, affinity);
  const caches = Array.from({ length: workersSampled }, () =>
    sizesBytes.map(sizeBytes => new CacheIndex(sizeBytes)),
  );
  const hits = sizesBytes.map(() => 0);
  let reads = 0;
  const all = workers * starts;
  for (let start = 0; start < all; start++) {
    const rank = popularity.next(random);
    const indexes = caches[placing.workerOf(rank, random)];
    if (indexes === undefined) continue;
    const counts = start >= (all * 2) / 3;
    const chunks = world.readsOf(world.imageOfRank(rank));
    if (counts) reads += chunks.length;
    for (const [at, index] of indexes.entries()) {
      const held = readAll(world, index, chunks);
      if (counts) hits[at]! += held;
    }
  }
  return hits.map(count => count / reads);
}

/** How many were there; the others are from now on. */
function readAll(world: World, index: CacheIndex, chunks: Uint32Array): number {
  let held = 0;
  for (const chunk of chunks) {
    const id = world.ids[chunk]!;
    if (index.use(id) !== undefined) held++;
    else index.add(id, { sizeBytes: world.sizesBytes[chunk]!, touchedMs: 0 });
  }
  return held;
}

export interface FleetSizing {
  /** Of whole chunks, without parity. */
  readonly sizesBytes: readonly number[];
  readonly starts: number;
  readonly uploadsPerStart: number;
  readonly latestFirst: Uint32Array;
  readonly seed: number;
}

/** The share of reads that go to the store, by size. */
export function storeShares(world: World, popularity: Popularity, sizing: FleetSizing): number[] {
  world.reset();
  const random = new Random(sizing.seed);
  const caches = sizing.sizesBytes.map(sizeBytes => new ChunkList(world, sizeBytes));
  for (const cache of caches) cache.fill(sizing.latestFirst);
  const uploads = new Uploads(world, popularity, sizing.uploadsPerStart, random);
  uploads.begin();
  const misses = caches.map(() => 0);
  let reads = 0;
  for (let start = 0; start < sizing.starts; start++) {
    uploads.next();
    const chunks = world.readsOf(world.imageOfRank(popularity.next(random)));
    reads += chunks.length;
    for (const [at, cache] of caches.entries()) {
      for (const chunk of chunks) if (!cache.read(chunk)) misses[at]!++;
    }
  }
  world.reset();
  return misses.map(count => count / reads);
}

class ChunkList {
  readonly #world: World;
  readonly #sizeMaxBytes: number;
  readonly #chunks = new RecencyLists(1);

  constructor(world: World, sizeMaxBytes: number) {
    this.#world = world;
    this.#sizeMaxBytes = sizeMaxBytes;
  }

  fill(latestFirst: Uint32Array): void {
    for (const chunk of latestFirst) {
      const sizeBytes = this.#world.sizesBytes[chunk]!;
      if (this.#chunks.bytes[0]! + sizeBytes > this.#sizeMaxBytes) return;
      this.#chunks.add(0, chunk, sizeBytes, 'back');
    }
  }

  /** Whether it was there; it is now. */
  read(chunk: ChunkNumber): boolean {
    const chunks = this.#chunks;
    if (chunks.has(chunk)) {
      chunks.touch(0, chunk);
      return true;
    }
    chunks.add(0, chunk, this.#world.sizesBytes[chunk]!);
    while (chunks.bytes[0]! > this.#sizeMaxBytes) {
      const last = chunks.last(0)!;
      chunks.remove(0, last, this.#world.sizesBytes[last]!);
    }
    return false;
  }
}

/**
 * Requests to the store a second, so many seconds after the shared cache came back empty, as sums
 * and not as replayed: each chunk is fetched at its first read, and its reads are a Poisson process.
 * What the workers have makes it a little less, uploads add what they did before.
 */
export function refillRates(
  world: World,
  popularity: Popularity,
  { startsPerSecond, atSeconds }: { startsPerSecond: number; atSeconds: readonly number[] },
): number[] {
  const readsPerSecond = new Float64Array(world.chunks);
  for (let rank = 0; rank < world.images; rank++) {
    const rate = startsPerSecond * popularity.shareOf(rank);
    for (const chunk of world.firstReadsOf(world.imageOfRank(rank))) readsPerSecond[chunk]! += rate;
  }
  return atSeconds.map(seconds =>
    readsPerSecond.reduce((sum, rate) => sum + rate * Math.exp(-rate * seconds), 0),
  );
}
