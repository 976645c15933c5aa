/** How large a simulation is, and what is assumed in it. docs/BENCHMARKS.md says on what grounds. */

import { MiB } from '../../src/base/limits.ts';

export interface Scale {
  seed: number;
  images: number;
  workers: number;
  /** Of each worker's disk. */
  workerCacheBytes: number;
  /** Starts on each worker before anything is counted. */
  warmStarts: number;
  /** Of all workers together. */
  startsPerSecond: number;
  /** Minutes: of the fleet as it always is, then between, and after, what happens to it. */
  steady: number;
  settle: number;
  after: number;
  /** To size L1: sizes, workers of which they are replayed, starts on each. */
  workerSizesBytes: readonly number[];
  workersSampled: number;
  startsSampled: number;
  /** To size L2. */
  fleetStarts: number;
}

export const fullScale: Scale = {
  seed: 1,
  images: 1_000_000,
  workers: 2000,
  workerCacheBytes: 256 * MiB,
  warmStarts: 450,
  startsPerSecond: 50,
  steady: 40,
  settle: 5,
  after: 30,
  workerSizesBytes: [128, 256, 512, 1024, 2048, 4096].map(size => size * MiB),
  workersSampled: 4,
  startsSampled: 4000,
  fleetStarts: 100_000,
};

/** Seconds: shows that it works. Its caches never come to rest. */
export const smallScale: Scale = {
  seed: 1,
  images: 20_000,
  workers: 50,
  workerCacheBytes: 128 * MiB,
  warmStarts: 60,
  startsPerSecond: 5,
  steady: 10,
  settle: 1,
  after: 10,
  workerSizesBytes: [64, 128, 256].map(size => size * MiB),
  workersSampled: 2,
  startsSampled: 200,
  fleetStarts: 2000,
};

export const shape = { dataShards: 4, parityShards: 1 };
export const nodes = 20;
/** Of Zipf's law. */
export const zipf = 0.9;
/** The share of starts that go to one of the workers that an image has of its own. */
export const affinity = 0;
/** Images that are uploaded again, to starts. */
export const uploadsPerStart = 0.015;
/** What L2 holds, to the chunks of all images: also what is uploaded meanwhile. */
export const fleetShare = 1.25;
