/**
 * How long things took, counted in buckets of fixed bounds. An observation allocates nothing: cells
 * are one typed array, whose numbers are whole and exact up to 2⁵³.
 */

import { assert } from './assert.ts';

/** From what memory takes to what a read waits at most, in steps of 1, 2, 5. */
export const bucketBoundsMs: readonly number[] = [
  0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 30_000,
];

/** A histogram as data: what Prometheus' format, the control socket and differences need. */
export interface HistogramFigures {
  /** A bucket each, not cumulative: at most its bound, above the one before; then those beyond all. */
  counts: number[];
  sumMs: number;
}

const bucketCount = bucketBoundsMs.length + 1;
/** In the same array: a field would be a number on the heap, a new one with each addition. */
const sumCell = bucketCount;

export class Histogram {
  readonly #cells = new Float64Array(bucketCount + 1);

  observe(durationMs: number): void {
    let bucket = 0;
    while (bucket < bucketBoundsMs.length && durationMs > bucketBoundsMs[bucket]!) bucket++;
    this.#cells[bucket]!++;
    this.#cells[sumCell]! += durationMs;
  }

  /** Counts what another one has as well. */
  add({ counts, sumMs }: HistogramFigures): void {
    assert(counts.length === bucketCount, 'histograms have the same buckets');
    counts.forEach((count, bucket) => {
      this.#cells[bucket]! += count;
    });
    this.#cells[sumCell]! += sumMs;
  }

  figures(): HistogramFigures {
    const cells = this.#cells;
    return { counts: [...cells.subarray(0, bucketCount)], sumMs: cells[sumCell]! };
  }
}

export function countOf({ counts }: HistogramFigures): number {
  return counts.reduce((sum, count) => sum + count, 0);
}

/** What came since: both are of one histogram, `older` may be absent as long as it was empty. */
export function since(
  newer: HistogramFigures,
  older: HistogramFigures | undefined,
): HistogramFigures {
  if (older === undefined) return newer;
  return {
    counts: newer.counts.map((count, bucket) => count - (older.counts[bucket] ?? 0)),
    sumMs: newer.sumMs - older.sumMs,
  };
}

/**
 * The time within which the share `q` (0 to 1) of the observations lies, taking those of a bucket as
 * spread evenly. Beyond the last bound it is that bound. Undefined without any.
 */
export function quantileMs({ counts }: HistogramFigures, q: number): number | undefined {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total === 0) return undefined;
  let below = 0;
  for (const [bucket, boundMs] of bucketBoundsMs.entries()) {
    const count = counts[bucket] ?? 0;
    if (count > 0 && below + count >= q * total) {
      const fromMs = bucketBoundsMs[bucket - 1] ?? 0;
      return fromMs + (boundMs - fromMs) * Math.max(0, (q * total - below) / count);
    }
    below += count;
  }
  return bucketBoundsMs.at(-1);
}
