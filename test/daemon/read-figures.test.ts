import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Histogram } from '../../src/base/histogram.ts';
import { readFigures, sumOf } from '../../src/daemon/read-figures.ts';
import { newReadCounters, type ReadCounters } from '../../src/image/chunk-reader.ts';

function counted(factor: number, tiers: readonly string[]): ReadCounters {
  const counters = newReadCounters();
  counters.reads = factor;
  counters.bytesRead = 2 * factor;
  counters.readErrors = 3 * factor;
  counters.chunksFetched = 4 * factor;
  counters.storedBytesFetched = 5 * factor;
  counters.readTimes.observe(factor);
  for (const tier of tiers) {
    counters.hits.set(tier, factor);
    const times = new Histogram();
    times.observe(factor);
    counters.lookupTimes.set(tier, times);
  }
  return counters;
}

test('a sum has every count of all, and leaves them as they were', () => {
  const [first, second] = [counted(1, ['l1', 'store']), counted(10, ['l1', 'l2'])];
  const before = readFigures(first);
  const sum = readFigures(sumOf([first, second]));
  const { readTimes, lookupTimes, ...counts } = sum;
  assert.deepEqual(counts, {
    reads: 11,
    bytesRead: 22,
    readErrors: 33,
    chunksFetched: 44,
    storedBytesFetched: 55,
    hits: { l1: 11, store: 1, l2: 10 },
  });
  assert.equal(readTimes.sumMs, 11);
  assert.deepEqual(
    Object.entries(lookupTimes).map(([tier, { sumMs }]) => [tier, sumMs]),
    [
      ['l1', 11],
      ['store', 1],
      ['l2', 10],
    ],
  );
  assert.deepEqual(readFigures(first), before);
});

test('the sum of none is nothing', () => {
  assert.deepEqual(readFigures(sumOf([])), readFigures(newReadCounters()));
});
