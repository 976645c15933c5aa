import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { hasCode, ImgstoreError } from '../../src/base/errors.ts';
import { countOf } from '../../src/base/histogram.ts';
import { chunkSizeMaxBytes, TiB } from '../../src/base/limits.ts';
import { Admission } from '../../src/cache/admission.ts';
import { bounded } from '../../src/cache/bounded.ts';
import type { ChunkSource } from '../../src/cache/chunk-source.ts';
import { coalesced } from '../../src/cache/coalesced.ts';
import { ChunkReader } from '../../src/image/chunk-reader.ts';
import { DecodedCache } from '../../src/image/decoded-cache.ts';
import { diskSource, metadataSource } from '../../src/image/disk-source.ts';
import { type FailedRange, LazyDisk } from '../../src/image/lazy-disk.ts';
import type { LookupEnd } from '../../src/image/read-trace.ts';
import type { ChunkSegment, Segment } from '../../src/recipe/recipe.ts';
import { FaultySource } from '../support/faulty-source.ts';
import { MemorySource } from '../support/memory-source.ts';
import { manyBytes, readerOf } from '../support/pushing.ts';
import { type Random, seeded } from '../support/random.ts';
import { until } from '../support/until.ts';
import { recipeOf, shelve } from './support.ts';

/** Chunks of any sizes, some of them several times, and runs of zeros. */
async function randomDisk(random: Random, source: MemorySource) {
  const parts: { segment: Segment; bytes: Buffer }[] = [];
  for (let i = random.between(1, 25); i > 0; i--) {
    const size = random.between(1, random.pick([10, 5000, 200_000, chunkSizeMaxBytes]));
    if (parts.length > 0 && random.chance(0.2)) {
      parts.push(random.pick(parts));
    } else if (random.chance(0.3)) {
      const plainSizeBytes = size * random.pick([1, 3]);
      const segment: Segment = { kind: 'zero', plainSizeBytes };
      parts.push({ segment, bytes: Buffer.alloc(plainSizeBytes) });
    } else {
      const bytes = manyBytes(random, size);
      parts.push({ segment: await shelve(source, bytes), bytes });
    }
  }
  const recipe = recipeOf(parts.map(({ segment }) => segment));
  return { recipe, bytes: Buffer.concat(parts.map(part => part.bytes)) };
}

test('any range of any disk is what the chunks and zeros say', async () => {
  for (const random of seeded(15)) {
    const source = new MemorySource('store');
    const { recipe, bytes } = await randomDisk(random, source);
    const disk = new LazyDisk(recipe, readerOf(source, random.pick([0, 300_000, 2 ** 26])));
    assert.equal(disk.sizeBytes, bytes.length);
    for (let i = 0; i < 60; i++) {
      const offset = random.below(bytes.length + 2);
      const length = random.below(random.pick([2, 5000, bytes.length + 10]));
      const slices = await disk.read(offset, length);
      const what = `seed ${random.seed}: ${length} bytes at ${offset}`;
      const expected = bytes.subarray(offset, offset + length);
      assert.ok(Buffer.concat(slices).equals(expected), what);
      assert.ok(
        slices.every(slice => slice.length > 0 && slice.length <= chunkSizeMaxBytes),
        what,
      );
      assert.ok((await disk.readBuffer(offset, length)).equals(expected), what);
    }
  }
});

test('the segment that holds an offset', async () => {
  for (const random of seeded(10)) {
    const source = new MemorySource('store');
    const { recipe } = await randomDisk(random, source);
    const disk = new LazyDisk(recipe, readerOf(source));
    let start = 0;
    recipe.segments.forEach(({ plainSizeBytes }, index) => {
      assert.equal(disk.segmentAt(start), index);
      assert.equal(disk.segmentAt(start + plainSizeBytes - 1), index);
      start += plainSizeBytes;
    });
  }
});

test('what is in memory is answered at once, in slices of it', async () => {
  const source = new MemorySource('store');
  const [a, b] = [
    await shelve(source, Buffer.alloc(5000, 1)),
    await shelve(source, Buffer.alloc(5000, 2)),
  ];
  const disk = new LazyDisk(
    recipeOf([a, { kind: 'zero', plainSizeBytes: 100 }, b]),
    readerOf(source),
  );
  assert.ok(disk.read(0, 10_100) instanceof Promise);
  await disk.read(0, 10_100);
  const slices = disk.read(4000, 3000);
  assert.ok(Array.isArray(slices));
  assert.deepEqual(
    slices.map(slice => slice.length),
    [1000, 100, 1900],
  );
  assert.equal(source.calls.length, 2, 'two reads, one get a chunk');
  // Zeros need no chunk.
  const zeros = new LazyDisk(
    recipeOf([{ kind: 'zero', plainSizeBytes: 4 * TiB }]),
    readerOf(source),
  );
  const read = zeros.read(3 * TiB + 5, 3_000_000);
  assert.ok(Array.isArray(read));
  assert.ok(Buffer.concat(read).equals(Buffer.alloc(3_000_000)));
});

test('nothing is read beyond the end, nor of an empty range', async () => {
  const source = new MemorySource('store');
  const disk = new LazyDisk(
    recipeOf([await shelve(source, Buffer.alloc(5000, 1))]),
    readerOf(source),
  );
  assert.deepEqual(disk.read(5000, 10), []);
  assert.deepEqual(disk.read(2 ** 53, 10), []);
  assert.deepEqual(disk.read(10, 0), []);
  assert.equal((await disk.readBuffer(4990, 4096)).length, 10);
  assert.equal(source.calls.length, 1);
});

test('counters: reads, bytes, and where chunks came from', async () => {
  const source = new MemorySource('store');
  const [a, b] = [
    await shelve(source, Buffer.alloc(5000, 1)),
    await shelve(source, Buffer.alloc(5000, 2)),
  ];
  const disk = new LazyDisk(recipeOf([a, b, a]), readerOf(source));
  await disk.read(0, 15_000);
  await disk.read(14_999, 5);
  const { hits, readTimes, lookupTimes, ...counts } = disk.counters;
  assert.deepEqual(Object.fromEntries(hits), { store: 2, 'in-flight': 1, memory: 1 });
  assert.deepEqual(counts, {
    reads: 2,
    bytesRead: 15_001,
    readErrors: 0,
    chunksFetched: 2,
    storedBytesFetched: a.sealedSizeBytes + b.sealedSizeBytes,
  });
  assert.equal(countOf(readTimes.figures()), 2, 'every read');
  assert.equal(countOf(lookupTimes.get('store')!.figures()), 2);
  assert.equal(countOf(lookupTimes.get('in-flight')!.figures()), 1);
  assert.ok(!lookupTimes.has('memory'), 'what memory has takes no time');
});

test('reads that wait are followed, each with its chunks; those from memory are not', async () => {
  const l1 = new MemorySource('l1');
  const chunks = [1, 2, 3].map(byte => shelve(l1, Buffer.alloc(5000, byte)));
  const [a, b, lost] = await Promise.all(chunks);
  l1.chunks.delete(lost!.id);
  const told: unknown[] = [];
  let reads = 0;
  const trace = (offsetBytes: number, lengthBytes: number) => {
    const read = ++reads;
    told.push([read, offsetBytes, lengthBytes]);
    return {
      chunk: (sizeBytes: number) => ({
        end: ({ tier, joined, error }: LookupEnd) =>
          told.push([read, sizeBytes, tier, joined, hasCode(error, ['NOT_FOUND'])]),
      }),
      end: (error?: unknown) => told.push([read, hasCode(error, ['NOT_FOUND'])]),
    };
  };
  const disk = new LazyDisk(recipeOf([a!, b!, a!, lost!]), readerOf(l1), { trace });
  await assert.rejects(async () => disk.read(4000, 100_000), { code: 'NOT_FOUND' });
  assert.deepEqual(told[0], [1, 4000, 16_000], 'within the disk');
  assert.deepEqual(told.at(-1), [1, true], 'the read failed');
  const ends = told.filter(end => Array.isArray(end) && end.length === 5);
  const size = a!.sealedSizeBytes;
  assert.deepEqual(
    ends.toSorted(),
    [
      [1, size, 'l1', false, false],
      [1, size, 'l1', false, false],
      [1, size, 'l1', true, false],
      [1, lost!.sealedSizeBytes, undefined, false, true],
    ].toSorted(),
  );
  assert.equal(disk.counters.lookupTimes.get('failed')!.figures().counts.length > 0, true);
  told.length = 0;
  await disk.read(0, 15_000);
  assert.deepEqual(told, [], 'all was in memory');
});

test('a read that is not to be followed is read all the same', async () => {
  const source = new MemorySource('store');
  const chunk = await shelve(source, Buffer.alloc(5000, 1));
  const trace = () => undefined;
  const disk = new LazyDisk(recipeOf([chunk]), readerOf(source), { trace });
  assert.equal((await disk.readBuffer(0, 5000)).length, 5000);
});

test('a chunk that cannot be had fails the read, and is told with its place', async () => {
  const source = new MemorySource('store');
  const chunks = [1, 2, 3].map(byte => shelve(source, Buffer.alloc(5000, byte)));
  const [a, b, c] = await Promise.all(chunks);
  source.chunks.delete(b!.id);
  source.chunks.delete(c!.id);
  const failures: FailedRange[] = [];
  const onFailure = (failed: FailedRange) => failures.push(failed);
  const disk = new LazyDisk(recipeOf([a!, b!, c!]), readerOf(source), { onFailure });
  await assert.rejects(async () => disk.read(4000, 7000), { code: 'NOT_FOUND' });
  assert.deepEqual(
    failures.map(({ error: _, ...where }) => where),
    [
      { chunkId: b!.id, offsetBytes: 5000, lengthBytes: 5000 },
      { chunkId: c!.id, offsetBytes: 10_000, lengthBytes: 5000 },
    ],
  );
  assert.ok(failures.every(({ error }) => error instanceof ImgstoreError));
  assert.equal(disk.counters.readErrors, 1, 'one read failed');
  // What is there can still be read.
  assert.ok((await disk.readBuffer(0, 5000)).equals(Buffer.alloc(5000, 1)));
});

test('segments that do not cover the disk are a bug', async () => {
  const source = new MemorySource('store');
  const recipe = recipeOf([await shelve(source, Buffer.alloc(10))]);
  assert.throws(() => new LazyDisk({ ...recipe, diskSizeBytes: 11 }, readerOf(source)), /cover/);
});

test('as a source: all bytes, or the metadata and zeros', async () => {
  const source = new MemorySource('store');
  const [a, b] = [
    await shelve(source, Buffer.alloc(5000, 1)),
    await shelve(source, Buffer.alloc(5000, 2)),
  ];
  const recipe = { ...recipeOf([a, b]), metadataSizeBytes: 5000 };
  const whole = diskSource(new LazyDisk(recipe, readerOf(source)));
  assert.equal(whole.sizeBytes, 10_000);
  const expected = Buffer.concat([Buffer.alloc(1000, 1), Buffer.alloc(1000, 2)]);
  assert.ok((await whole.read(4000, 2000)).equals(expected));
  source.chunks.delete(b.id);
  const metadata = metadataSource(new LazyDisk(recipe, readerOf(source)), recipe);
  assert.equal(metadata.sizeBytes, 10_000);
  for (const [offset, length] of [
    [0, 5000],
    [4000, 2000],
    [5000, 1000],
    [9000, 1000],
    [0, 10_000],
  ] as const) {
    const bytes = Buffer.concat([Buffer.alloc(5000, 1), Buffer.alloc(5000)]);
    const part = bytes.subarray(offset, offset + length);
    assert.ok((await metadata.read(offset, length)).equals(part), `${length} at ${offset}`);
  }
});

/** As a daemon's. */
function wide(source: ChunkSource): ChunkReader {
  return new ChunkReader(source, new DecodedCache(2 ** 26), { chunksInFlightMax: 64 });
}

/** `count` chunks of `sizeBytes` on a source that holds each get until it is released. */
async function heldDisk({ count, sizeBytes = 1000 }: { count: number; sizeBytes?: number }) {
  const memory = new MemorySource('store');
  const segments: ChunkSegment[] = [];
  for (let i = 0; i < count; i++) {
    segments.push(await shelve(memory, Buffer.alloc(sizeBytes, i + 1)));
  }
  return { memory, segments, source: new FaultySource(memory, 'hold') };
}

test('a prefetch takes the first bytes in order, four chunks at a time', async () => {
  const { memory, segments, source } = await heldDisk({ count: 12 });
  const zero: Segment = { kind: 'zero', plainSizeBytes: 1000 };
  const all = [...segments.slice(0, 3), zero, ...segments.slice(3)];
  const disk = new LazyDisk(recipeOf(all), wide(source));
  let done = false;
  disk.prefetch(8500).then(() => {
    done = true;
  });
  await until(() => source.running === 4, 'four are asked for');
  await nextTurn();
  assert.equal(source.gets, 4);
  await until(() => {
    source.release();
    return done;
  }, 'it is done');
  assert.equal(source.runningMost, 4);
  const first = segments.slice(0, 8).map(({ id }) => `get ${id}`);
  assert.deepEqual(memory.calls, first, 'eight chunks and a run of zeros have bytes below 8500');
  assert.ok(Array.isArray(disk.read(0, 9000)));
  await disk.prefetch(8500);
  await disk.prefetch(0);
  assert.equal(source.gets, 8);
});

test('a prefetch ends with the disk, and where there is nothing to be had', async () => {
  const { segments, source } = await heldDisk({ count: 12 });
  const disk = new LazyDisk(recipeOf(segments), wide(source));
  const prefetch = disk.prefetch(12_000);
  await until(() => source.running === 4, 'four are asked for');
  disk.abandon();
  await prefetch;
  assert.equal(source.gets, 4);

  const failures: FailedRange[] = [];
  const onFailure = (failed: FailedRange) => failures.push(failed);
  const dead = new FaultySource(source, 'fault');
  const options = { onFailure };
  await new LazyDisk(recipeOf(segments), wide(dead), options).prefetch(12_000);
  assert.equal(dead.gets, 4, 'a store that does not answer is not asked for everything');
  assert.deepEqual(failures, [], 'nobody read');
});

test('a disk that was given up asks for nothing, and gives what memory has', async () => {
  const { segments, source } = await heldDisk({ count: 2 });
  const disk = new LazyDisk(recipeOf(segments), wide(source));
  const { plainSizeBytes } = segments[0]!;
  const first = disk.readBuffer(0, 10);
  source.plan = () => 'work';
  source.release();
  const bytes = await first;
  disk.abandon();
  assert.ok((await disk.readBuffer(0, 10)).equals(bytes));
  source.plan = () => 'hold';
  await assert.rejects(disk.readBuffer(plainSizeBytes - 1, 2), /not mounted any more/);
  assert.equal(source.gets, 1);
  assert.equal(disk.counters.readErrors, 1);
});

test('a read is asked of the store at once, however much is prefetched', async () => {
  const { memory, segments, source } = await heldDisk({ count: 40 });
  const limits = { atOnceMax: 32, prefetchAtOnceMax: 8, prefetchWaitingMax: 64 };
  const tiers = coalesced(bounded(source, new Admission(limits)));
  const reader = wide(tiers);
  const disks = segments.slice(0, 30).map((_, i) => {
    // As 30 images that have no chunk in common at their beginnings.
    const own = [...segments.slice(i, 30), ...segments.slice(0, i), ...segments.slice(30)];
    return new LazyDisk(recipeOf(own), reader);
  });
  const prefetches = disks.map(disk => disk.prefetch(30_000));
  await until(() => source.running === 8, 'prefetches have their places');
  await nextTurn();
  assert.equal(source.gets, 8);
  const [disk] = disks;
  const reads = [30, 31, 32, 20].map(index => disk!.readBuffer(index * 1000, 1000));
  await nextTurn();
  assert.equal(source.running, 12, 'new ones, and one for which a prefetch waits');
  await until(() => {
    source.release();
    return memory.calls.length === 33;
  }, 'each chunk is fetched');
  await Promise.all([...prefetches, ...reads]);
  assert.equal(source.gets, 33, 'once');
});
