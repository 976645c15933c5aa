/**
 * What is started: the images of a population (bench/traces/population.ts), with numbers for their
 * chunks, and what changes them: uploads in their place, and bases that are built anew.
 */

import { type ChunkId, sha256Hex } from '../../src/base/digest.ts';
import type { Random } from '../../test/support/random.ts';
import { Population } from '../traces/population.ts';

/** A chunk's place in `ids` and `sizesBytes`. */
export type ChunkNumber = number;

export class World {
  readonly seed: number;
  readonly images: number;
  readonly ids: ChunkId[] = [];
  readonly sizesBytes: number[] = [];
  readonly #population: Population;
  readonly #numbers = new Map<ChunkId, ChunkNumber>();
  /** What starts of the images' first uploads read, one after the other, and where each begins. */
  readonly #reads: Uint32Array;
  readonly #begins: Uint32Array;
  /** The images that were uploaded again. */
  readonly #versions = new Map<number, number>();
  readonly #readsNow = new Map<number, Uint32Array>();
  /** Chunks of bases that were built anew, and those in their place. */
  readonly #replaced = new Map<ChunkNumber, ChunkNumber>();

  constructor({ seed, images }: { seed: number; images: number }) {
    this.seed = seed;
    this.images = images;
    this.#population = new Population({ seed, images, zipf: 1 });
    this.#begins = new Uint32Array(images + 1);
    const reads: number[] = [];
    for (let image = 0; image < images; image++) {
      for (const chunk of this.#population.readSet(image)) {
        reads.push(this.#numberOf(chunk.id, chunk.sizeBytes));
      }
      this.#begins[image + 1] = reads.length;
    }
    this.#reads = Uint32Array.from(reads);
  }

  get chunks(): number {
    return this.ids.length;
  }

  /** Of all chunks so far, sealed. */
  get bytes(): number {
    return this.sizesBytes.reduce((sum, sizeBytes) => sum + sizeBytes, 0);
  }

  /** Of one start of each image together. */
  get reads(): number {
    return this.#reads.length;
  }

  imageOfRank(rank: number): number {
    return this.#population.imageOfRank(rank);
  }

  /** What a start of the image reads now, each chunk once, in order. */
  readsOf(image: number): Uint32Array {
    const reads = this.#readsNow.get(image) ?? this.firstReadsOf(image);
    if (this.#replaced.size === 0) return reads;
    return reads.map(chunk => this.#replaced.get(chunk) ?? chunk);
  }

  firstReadsOf(image: number): Uint32Array {
    return this.#reads.subarray(this.#begins[image]!, this.#begins[image + 1]!);
  }

  /** The image is uploaded again: four times of five with the same chunks. */
  upload(image: number): void {
    const version = (this.#versions.get(image) ?? 0) + 1;
    this.#versions.set(image, version);
    const reads = this.#population
      .readSet(image, version)
      .map(({ id, sizeBytes }) => this.#numberOf(id, sizeBytes));
    this.#readsNow.set(image, Uint32Array.from(reads));
  }

  /** As upload, with chunks that no upload before has. */
  release(image: number): void {
    do this.upload(image);
    while (this.#population.uniqueShare(image, this.#versions.get(image)!) === 0);
  }

  /** These chunks are others from now on, for all images that have them. */
  replace(chunks: Iterable<ChunkNumber>): void {
    for (const chunk of chunks) this.#replaced.set(chunk, this.freshChunk(this.sizesBytes[chunk]!));
  }

  /** A chunk that no image has. */
  freshChunk(sizeBytes: number): ChunkNumber {
    return this.#numberOf(sha256Hex(Buffer.from(`fresh ${this.chunks}`)) as ChunkId, sizeBytes);
  }

  /** All images are as at first. */
  reset(): void {
    this.#versions.clear();
    this.#readsNow.clear();
    this.#replaced.clear();
  }

  /**
   * All chunks by when they were last read, the latest first, where starts have gone on for ever at
   * the same rate: the time since an image was last started is exponentially distributed, with the
   * mean of the time between its starts. An LRU of any size then holds the first of these.
   */
  latestFirst(popularity: Popularity, random: Random): Uint32Array {
    const ages = new Float64Array(this.images);
    for (let rank = 0; rank < this.images; rank++) {
      ages[rank] = -Math.log((random.u32() + 0.5) / 2 ** 32) / popularity.shareOf(rank);
    }
    const ranks = Uint32Array.from(ages.keys()).sort((a, b) => ages[a]! - ages[b]!);
    const seen = new Uint8Array(this.chunks);
    const latest: ChunkNumber[] = [];
    for (const rank of ranks) {
      for (const chunk of this.firstReadsOf(this.imageOfRank(rank))) {
        if (seen[chunk] === 1) continue;
        seen[chunk] = 1;
        latest.push(chunk);
      }
    }
    return Uint32Array.from(latest);
  }

  #numberOf(id: ChunkId, sizeBytes: number): ChunkNumber {
    const known = this.#numbers.get(id);
    if (known !== undefined) return known;
    const number = this.ids.push(id) - 1;
    this.#numbers.set(id, number);
    this.sizesBytes.push(sizeBytes);
    return number;
  }
}

/** How often the images of a world are started. */
export class Popularity {
  readonly images: number;
  readonly zipf: number;
  readonly #population: Population;

  constructor({ seed, images }: World, zipf: number) {
    this.images = images;
    this.zipf = zipf;
    this.#population = new Population({ seed, images, zipf });
  }

  /** The rank, from 0, of the image that is started next. */
  next(random: Random): number {
    return this.#population.rankOf(random.u32() / 2 ** 32);
  }

  /** Of all starts, as `next` draws them: between r + 1 and r + 2 under the density 1 / x^zipf. */
  shareOf(rank: number): number {
    const { zipf } = this;
    const below = (x: number) => (zipf === 1 ? Math.log(x) : (x ** (1 - zipf) - 1) / (1 - zipf));
    return (below(rank + 2) - below(rank + 1)) / below(this.images + 1);
  }
}
