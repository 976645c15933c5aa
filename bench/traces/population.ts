/**
 * A population of images such as a fleet starts: who shares which chunks with whom, how popular
 * each is, and what a start reads. Up to millions of images: nothing is stored for an image, every
 * answer is a hash of the seed and of what is asked, the same whenever it is asked.
 *
 * What is measured, and by whom:
 * - 80 % of the uploads of AWS Lambda have no chunk of their own; of the others the mean has 4.3 %,
 *   the median 2.5 % (Brooker, Danilov, Greenwood, Piwonka: On-demand Container Loading in AWS
 *   Lambda, USENIX ATC 2023; arXiv 2305.13162). The shares here are log-normal with that mean and
 *   median.
 * - A start reads 7 % of an image, 25 chunks, 5 MB, and sealed chunks have 200 KB on average: the
 *   corpus' python and nginx (docs/BENCHMARKS.md).
 * What is assumed: popularity follows Zipf's law; an upload without chunks of its own has those of
 * one of the 64 before it; the rest of what a start reads comes from a tree of layers that 20 uploads,
 * then more, share; a third of an image's own chunks is read at its start.
 */

import { LRUCache } from 'lru-cache';
import type { ChunkId } from '../../src/base/digest.ts';
import { KiB } from '../../src/base/limits.ts';

export interface PopulationOptions {
  seed: number;
  /** 1 to 2^26. */
  images: number;
  /** The exponent of Zipf's law: the image of rank r is started in proportion to 1 / r^zipf. */
  zipf: number;
}

export interface TraceChunk {
  readonly id: ChunkId;
  /** Sealed. */
  readonly sizeBytes: number;
}

const reuploadShare = 0.8;
/** What is uploaded again was uploaded shortly before: tests and deployments do it. */
const reuploadReach = 64;
const uniqueShareMedian = 0.025;
/** The mean of a log-normal distribution is its median times e^(σ²/2). */
const uniqueShareSigma = Math.sqrt(2 * Math.log(0.043 / uniqueShareMedian));
const imageChunks = 350;
const ownChunksReadShare = 1 / 3;

const bases = 20;
const runtimes = 200;
const imagesAnApplication = 20;
const chunksRead = { base: 6, runtime: 9, application: 5 };
/** A chunk of the application's layer is another one after so many versions of it, each in turn. */
const applicationChunkVersions = 8;

/** As the cutter's: none below 64 KiB, few of 1 MiB, 200 KB on average. */
const chunkSizeMinBytes = 64 * KiB;
const chunkSizeMaxBytes = 1024 * KiB;
const chunkSizeOverMinBytes = 140_000;

/** Read sets of layers that stay in memory, so that thousands of workers share their ids: 40 MB. */
const layersMax = 50_000;

type Layer = readonly TraceChunk[];
/** First of what is hashed, so that no two draws are the same. */
const draw = { image: 1, application: 2, runtime: 3, reupload: 4, origin: 5, share: 6, phase: 7 };
const layerKind = { base: 11, runtime: 12, application: 13, own: 14 };

export class Population {
  readonly images: number;
  readonly #seed: number;
  readonly #zipf: number;
  readonly #applications: number;
  readonly #stride: number;
  readonly #layers = new LRUCache<string, Layer>({ max: layersMax });
  readonly #idBytes = Buffer.alloc(32);

  constructor({ seed, images, zipf }: PopulationOptions) {
    this.images = images;
    this.#seed = seed;
    this.#zipf = zipf;
    this.#applications = Math.ceil(images / imagesAnApplication);
    this.#stride = coprimeTo(images);
  }

  /** The image of a popularity rank, 0 the most popular. Every image has one rank. */
  imageOfRank(rank: number): number {
    return (rank * this.#stride + (this.#hash(draw.image, 0, 0) % this.images)) % this.images;
  }

  /** A rank by Zipf's law, from a random number of 0 to below 1. */
  rankOf(uniform: number): number {
    return zipfRank(uniform, this.images, this.#zipf);
  }

  /** The image that is started next, from a random number of 0 to below 1. */
  imageOf(uniform: number): number {
    return this.imageOfRank(this.rankOf(uniform));
  }

  /**
   * What a start of the image reads, each chunk once, in order. Version 0 is the first upload of the
   * image; the next is what a deploy puts in its place, in one of five cases with other chunks.
   */
  readSet(image: number, version = 0): TraceChunk[] {
    const origin = this.#originOf(image, version);
    // An image stays on its layers from version to version, whichever of them has its own chunks.
    const { image: first } = this.#originOf(image, 0);
    const application = this.#hash(draw.application, first, 0) % this.#applications;
    const runtime = zipfRank(this.#uniform(draw.application, application, 1), runtimes, 1);
    const base = zipfRank(this.#uniform(draw.runtime, runtime, 0), bases, 1);
    return [
      ...this.#layer(layerKind.base, base, 0, chunksRead.base),
      ...this.#layer(layerKind.runtime, runtime, 0, chunksRead.runtime),
      ...this.#layer(layerKind.application, application, origin.version, chunksRead.application),
      ...this.#layer(layerKind.own, origin.image, origin.version, this.#ownChunksRead(origin)),
    ];
  }

  /** The share of an upload's chunks that no upload before it has: 0 to 1. */
  uniqueShare(image: number, version = 0): number {
    const origin = this.#originOf(image, version);
    const first = origin.image === image && origin.version === version;
    return first ? this.#ownShare(image, version) : 0;
  }

  /** The upload that brought the chunks of this one; often itself, more often one before it. */
  #originOf(image: number, version: number): { image: number; version: number } {
    while (image + version > 0 && this.#uniform(draw.reupload, image, version) < reuploadShare) {
      if (version > 0) version--;
      else image -= 1 + (this.#hash(draw.origin, image, 0) % Math.min(image, reuploadReach));
    }
    return { image, version };
  }

  #ownShare(image: number, version: number): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.#uniform(draw.share, image, 2 * version)));
    const angle = 2 * Math.PI * this.#uniform(draw.share, image, 2 * version + 1);
    const share = uniqueShareMedian * Math.exp(uniqueShareSigma * radius * Math.cos(angle));
    return Math.min(1, share);
  }

  #ownChunksRead({ image, version }: { image: number; version: number }): number {
    const chunks = this.#ownShare(image, version) * imageChunks * ownChunksReadShare;
    return Math.max(1, Math.round(chunks));
  }

  #layer(kind: number, number: number, version: number, chunks: number): Layer {
    const key = `${kind}.${number}.${version}`;
    const known = this.#layers.get(key);
    if (known !== undefined) return known;
    const layer: TraceChunk[] = [];
    for (let at = 0; at < chunks; at++) {
      layer.push(this.#chunk(kind, number, at, this.#chunkVersion(kind, number, version, at)));
    }
    this.#layers.set(key, layer);
    return layer;
  }

  #chunkVersion(kind: number, number: number, version: number, at: number): number {
    if (kind !== layerKind.application) return version;
    const phase = this.#hash(draw.phase, number, at) % applicationChunkVersions;
    return Math.floor((version + phase) / applicationChunkVersions);
  }

  #chunk(kind: number, number: number, at: number, version: number): TraceChunk {
    const [a, b] = [kind * 2 ** 16 + at, version * 8];
    for (let word = 0; word < 8; word++) {
      this.#idBytes.writeUInt32LE(this.#hash(a, number, b + word), 4 * word);
    }
    const uniform = this.#hash(a + 2 ** 24, number, b) / 2 ** 32;
    const overBytes = Math.round(-Math.log(1 - uniform) * chunkSizeOverMinBytes);
    const sizeBytes = Math.min(chunkSizeMaxBytes, chunkSizeMinBytes + overBytes);
    return { id: this.#idBytes.toString('hex') as ChunkId, sizeBytes };
  }

  #uniform(a: number, b: number, c: number): number {
    return this.#hash(a, b, c) / 2 ** 32;
  }

  #hash(a: number, b: number, c: number): number {
    return mix(mix(mix(mix(this.#seed) ^ a) + b) ^ (c + 0x9e3779b9));
  }
}

/**
 * The law's continuous form, rounded down: rank r has the probability of the values from r to
 * r + 1 of a density in proportion to 1 / x^exponent.
 */
function zipfRank(uniform: number, count: number, exponent: number): number {
  const end = count + 1;
  const power = 1 - exponent;
  const value = power === 0 ? end ** uniform : ((end ** power - 1) * uniform + 1) ** (1 / power);
  return Math.min(count, Math.max(1, Math.floor(value))) - 1;
}

/** Near the golden section, so that neighbours in rank lie far from each other. */
function coprimeTo(count: number): number {
  let stride = Math.max(1, Math.floor(count * 0.618));
  while (greatestCommonDivisor(stride, count) !== 1) stride++;
  return stride;
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

/** The finaliser of MurmurHash3. */
function mix(value: number): number {
  let z = value >>> 0;
  z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
  z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
  return (z ^ (z >>> 16)) >>> 0;
}
