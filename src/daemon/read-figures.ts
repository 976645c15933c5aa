/** What the reads of disks cost, as data and added up. */

import { Histogram, type HistogramFigures } from '../base/histogram.ts';
import { newReadCounters, type ReadCounters } from '../image/chunk-reader.ts';

/** As ReadCounters has them. */
export interface ReadFigures {
  reads: number;
  bytesRead: number;
  readErrors: number;
  chunksFetched: number;
  storedBytesFetched: number;
  hits: Record<string, number>;
  readTimes: HistogramFigures;
  lookupTimes: Record<string, HistogramFigures>;
}

export function readFigures(counters: ReadCounters): ReadFigures {
  const { hits, readTimes, lookupTimes, ...counts } = counters;
  const times = [...lookupTimes].map(([tier, histogram]) => [tier, histogram.figures()] as const);
  return {
    ...counts,
    hits: Object.fromEntries(hits),
    readTimes: readTimes.figures(),
    lookupTimes: Object.fromEntries(times),
  };
}

export function sumOf(all: Iterable<ReadCounters>): ReadCounters {
  const sum = newReadCounters();
  for (const counters of all) {
    sum.reads += counters.reads;
    sum.bytesRead += counters.bytesRead;
    sum.readErrors += counters.readErrors;
    sum.chunksFetched += counters.chunksFetched;
    sum.storedBytesFetched += counters.storedBytesFetched;
    sum.readTimes.add(counters.readTimes.figures());
    for (const [tier, count] of counters.hits) {
      sum.hits.set(tier, (sum.hits.get(tier) ?? 0) + count);
    }
    for (const [tier, histogram] of counters.lookupTimes) {
      const times = sum.lookupTimes.get(tier) ?? new Histogram();
      times.add(histogram.figures());
      sum.lookupTimes.set(tier, times);
    }
  }
  return sum;
}
