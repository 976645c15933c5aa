/**
 * Reads as many programs at once make them: each begins at its time, whether those before it are
 * answered or not, so that a read that waits long does not keep others from being counted. Every
 * answer is compared with the bytes that were stored.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type { ChunkSource } from '../../src/cache/chunk-source.ts';
import type { Random } from '../../test/support/random.ts';
import type { SealedChunk } from '../../test/support/sealed-chunks.ts';
import { quantile } from '../numbers.ts';
import { Population } from '../traces/population.ts';

export interface LoadOptions {
  chunks: readonly SealedChunk[];
  reads: number;
  /** On average; the times between them are exponential. */
  readsPerSecond: number;
  random: Random;
}

interface Read {
  /** Since the load began. */
  beganMs: number;
  tookMs: number;
  /** The tier that had it; undefined if no answer came. */
  tier: string | undefined;
  isWrong: boolean;
}

/** Popular chunks are read more often, after Zipf's law. */
const zipf = 0.9;

export class LoadResult {
  readonly reads: readonly Read[];
  /** Of this process, user and system. */
  readonly cpuMs: number;

  constructor(reads: readonly Read[], cpuMs: number) {
    this.reads = reads;
    this.cpuMs = cpuMs;
  }

  latencyMs(share: number): number {
    return quantile(
      this.reads.map(({ tookMs }) => tookMs),
      share,
    );
  }

  /** In per cent of all reads. */
  hitRate(tier: string): number {
    return (100 * this.reads.filter(read => read.tier === tier).length) / this.reads.length;
  }

  get wrong(): number {
    return this.reads.filter(({ isWrong }) => isWrong).length;
  }

  get failed(): number {
    return this.reads.filter(({ tier }) => tier === undefined).length;
  }

  /** Without the reads of the first so many milliseconds. */
  since(ms: number): LoadResult {
    return new LoadResult(
      this.reads.filter(({ beganMs }) => beganMs >= ms),
      this.cpuMs,
    );
  }
}

export async function runLoad(source: ChunkSource, options: LoadOptions): Promise<LoadResult> {
  const { chunks, reads: count, readsPerSecond, random } = options;
  const popularity = new Population({ seed: 1, images: chunks.length, zipf });
  const uniform = () => random.u32() / 2 ** 32;
  const cpuBefore = process.cpuUsage();
  const startedMs = performance.now();
  const reads: Promise<Read>[] = [];
  let dueMs = 0;
  while (reads.length < count) {
    dueMs += (-Math.log(1 - uniform()) * 1000) / readsPerSecond;
    const earlyMs = dueMs - (performance.now() - startedMs);
    if (earlyMs > 0) await sleep(earlyMs);
    reads.push(timed(source, chunks[popularity.rankOf(uniform())]!, startedMs));
  }
  const done = await Promise.all(reads);
  const { user, system } = process.cpuUsage(cpuBefore);
  return new LoadResult(done, (user + system) / 1e3);
}

export async function timed(
  source: ChunkSource,
  { id, sealed }: SealedChunk,
  startedMs = 0,
): Promise<Read> {
  const beganMs = performance.now();
  const hit = await source.get(id, { sizeBytes: sealed.length }).catch(() => undefined);
  const tookMs = performance.now() - beganMs;
  const isWrong = hit !== undefined && !hit.sealed.equals(sealed);
  return { beganMs: beganMs - startedMs, tookMs, tier: hit?.tier, isWrong };
}
