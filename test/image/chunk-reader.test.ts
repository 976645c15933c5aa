import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { silentLog } from '../../src/base/log.ts';
import type { ChunkSource } from '../../src/cache/chunk-source.ts';
import { coalesced } from '../../src/cache/coalesced.ts';
import { PrefetchShed } from '../../src/cache/prefetch.ts';
import { tiered } from '../../src/cache/tiered.ts';
import { ChunkReader, newReadCounters } from '../../src/image/chunk-reader.ts';
import { DecodedCache } from '../../src/image/decoded-cache.ts';
import type { ChunkSegment } from '../../src/recipe/recipe.ts';
import { FaultySource } from '../support/faulty-source.ts';
import { MemorySource } from '../support/memory-source.ts';
import { manyBytes } from '../support/pushing.ts';
import { Random } from '../support/random.ts';
import { until } from '../support/until.ts';
import { shelve } from './support.ts';

const random = new Random(1);
const plain = manyBytes(random, 100_000);
let shelf: MemorySource;
let segment: ChunkSegment;

beforeEach(async () => {
  shelf = new MemorySource('store');
  segment = await shelve(shelf, plain);
});

function readerOf(
  source: ChunkSource,
  chunksInFlightMax = 4,
  memoryBytes = 10_000_000,
): ChunkReader {
  return new ChunkReader(source, new DecodedCache(memoryBytes), { chunksInFlightMax });
}

/** As a cache on this worker's disk. */
function cacheOf(chunks: ReadonlyMap<string, Buffer>): MemorySource {
  const cache = new MemorySource('l1', { verified: false });
  for (const [id, sealed] of chunks)
    cache.chunks.set(id as ChunkSegment['id'], Buffer.from(sealed));
  return cache;
}

/** A cache in front of the store, as simple as can be. */
class TwoTiers implements ChunkSource {
  readonly tier = 'both';
  readonly #cache: MemorySource;
  readonly #store: MemorySource;

  constructor(cache: MemorySource, store: MemorySource) {
    this.#cache = cache;
    this.#store = store;
  }
  async get(...args: Parameters<ChunkSource['get']>) {
    return (await this.#cache.get(...args)) ?? (await this.#store.get(...args));
  }
  put = async () => {};
  async drop(id: ChunkSegment['id']) {
    await this.#cache.drop(id);
  }
  close = async () => {};
}

test('a chunk is fetched, opened and kept in memory', async () => {
  const reader = readerOf(shelf);
  const counters = newReadCounters();
  assert.equal(reader.peek(segment, counters), undefined);
  assert.ok((await reader.read(segment, counters)).equals(plain));
  assert.ok(reader.peek(segment, counters)!.equals(plain));
  assert.deepEqual(shelf.calls, [`get ${segment.id}`]);
  assert.deepEqual(Object.fromEntries(counters.hits), { store: 1, memory: 1 });
  assert.equal(counters.chunksFetched, 1);
  assert.equal(counters.storedBytesFetched, segment.sealedSizeBytes);
});

test('one fetch for however many wait for a chunk', async () => {
  const source = new FaultySource(shelf, 'hold');
  const reader = readerOf(source);
  const counters = newReadCounters();
  const reads = Array.from({ length: 50 }, () => reader.read({ ...segment }, counters));
  await nextTurn();
  assert.equal(source.gets, 1);
  assert.equal(reader.chunksInFlight, 1);
  source.release();
  const answers = await Promise.all(reads);
  for (const answer of answers) assert.equal(answer, answers[0], 'the same bytes, not copies');
  assert.ok(answers[0]!.equals(plain));
  assert.deepEqual(Object.fromEntries(counters.hits), { 'in-flight': 49, store: 1 });
  assert.equal(reader.chunksInFlight, 0);
});

test('a fault reaches all who wait, and the next reader tries again', async () => {
  const source = new FaultySource(shelf, 'fault');
  const reader = readerOf(source);
  const counters = newReadCounters();
  const reads = [1, 2, 3].map(() => reader.read(segment, counters));
  for (const { status } of await Promise.allSettled(reads)) assert.equal(status, 'rejected');
  assert.equal(source.gets, 1);
  assert.equal(reader.chunksInFlight, 0);
  source.plan = () => 'work';
  assert.ok((await reader.read(segment, counters)).equals(plain));
});

test('no more chunks are in flight than allowed', async () => {
  const segments: ChunkSegment[] = [];
  for (let i = 0; i < 20; i++) segments.push(await shelve(shelf, manyBytes(random, 5000)));
  const source = new FaultySource(shelf, 'hold');
  const reader = readerOf(source, 3);
  const counters = newReadCounters();
  const reads = Promise.all(segments.map(one => reader.read(one, counters)));
  let done = false;
  reads.then(() => {
    done = true;
  });
  await until(() => {
    source.release();
    return done;
  }, 'all are read');
  assert.equal(source.runningMost, 3);
  assert.equal(source.gets, 20);
});

test('a chunk that no tier has', async () => {
  shelf.chunks.clear();
  const counters = newReadCounters();
  await assert.rejects(readerOf(shelf).read(segment, counters), {
    code: 'NOT_FOUND',
    message: new RegExp(`Cannot find chunk ${segment.id}`),
  });
  assert.deepEqual(counters.hits, new Map());
});

test('a torn copy of a cache is dropped, and the next tier is asked', async () => {
  const cache = cacheOf(shelf.chunks);
  cache.chunks.get(segment.id)![50_000]! ^= 1;
  const reader = readerOf(new TwoTiers(cache, shelf));
  const counters = newReadCounters();
  assert.ok((await reader.read(segment, counters)).equals(plain));
  assert.deepEqual(cache.calls, [`get ${segment.id}`, `drop ${segment.id}`, `get ${segment.id}`]);
  assert.deepEqual(Object.fromEntries(counters.hits), { l1: 1, store: 1 });
  assert.equal(counters.chunksFetched, 1, 'what the cache had was not fetched');
});

test('a copy that is torn again is a fault, not an endless loop', async () => {
  const cache = cacheOf(shelf.chunks);
  cache.chunks.get(segment.id)![50_000]! ^= 1;
  cache.drop = async () => {};
  const reader = readerOf(new TwoTiers(cache, shelf));
  await assert.rejects(reader.read(segment, newReadCounters()), { code: 'CORRUPT' });
});

test('a torn copy that no other tier has', async () => {
  const cache = cacheOf(shelf.chunks);
  cache.chunks.get(segment.id)!.fill(0);
  shelf.chunks.clear();
  const reader = readerOf(new TwoTiers(cache, shelf));
  await assert.rejects(reader.read(segment, newReadCounters()), { code: 'NOT_FOUND' });
});

test('what a verified source has is not asked for twice', async () => {
  shelf.chunks.get(segment.id)![50_000]! ^= 1;
  const reader = readerOf(shelf);
  await assert.rejects(reader.read(segment, newReadCounters()), { code: 'CORRUPT' });
  assert.deepEqual(shelf.calls, [`get ${segment.id}`]);
});

const wrongKey = () => ({ ...segment, key: Buffer.alloc(32, 7) });
const wrongSize = () => ({ ...segment, plainSizeBytes: segment.plainSizeBytes - 1 });

test('a recipe that is wrong gets nothing from memory, and costs nobody a copy', async () => {
  for (const wrong of [wrongKey(), wrongSize()]) {
    const cache = cacheOf(shelf.chunks);
    const reader = readerOf(new TwoTiers(cache, shelf));
    const counters = newReadCounters();
    await reader.read(segment, counters);
    assert.equal(reader.peek(wrong, counters), undefined);
    await assert.rejects(reader.read(wrong, counters), { code: 'CORRUPT' });
    assert.ok(!cache.calls.includes(`drop ${segment.id}`), 'the copy fits its id');
    assert.ok(reader.peek(segment, counters)!.equals(plain));
  }
});

test('a recipe that is wrong shares no flight, neither as the first nor as the second', async () => {
  for (const wrong of [wrongKey(), wrongSize()]) {
    for (const wrongFirst of [true, false]) {
      const source = new FaultySource(shelf, 'hold');
      const reader = readerOf(source, 4, 0);
      const counters = newReadCounters();
      const order = wrongFirst ? [wrong, segment, segment] : [segment, wrong, segment];
      const reads = order.map(one => reader.read(one, counters));
      const settled = Promise.allSettled(reads);
      let done = false;
      settled.then(() => {
        done = true;
      });
      await until(() => {
        source.release();
        return done;
      }, 'all are read');
      const answers = await settled;
      if (!wrongFirst) assert.equal(source.gets, 2, 'the right ones share theirs');
      order.forEach((one, i) => {
        const answer = answers[i]!;
        if (one === wrong) assert.equal(answer.status, 'rejected');
        else assert.ok(answer.status === 'fulfilled' && answer.value.equals(plain));
      });
      assert.equal(reader.chunksInFlight, 0);
    }
  }
});

test('without room in memory every read fetches, and is right', async () => {
  const reader = readerOf(shelf, 4, 0);
  const counters = newReadCounters();
  for (let i = 0; i < 3; i++) assert.ok((await reader.read(segment, counters)).equals(plain));
  assert.equal(counters.chunksFetched, 3);
});

test('what nobody waits for any more is not fetched; what others wait for is', async () => {
  const other = await shelve(shelf, manyBytes(random, 50_000));
  const source = new FaultySource(shelf, 'hold');
  const reader = readerOf(source);
  const [gone, stays] = [newReadCounters(), newReadCounters()];
  const reason = new Error('unmounted');
  const reads = [
    reader.read(segment, gone),
    reader.read(segment, gone),
    reader.read(other, gone),
    reader.read(other, stays),
  ];
  const settled = Promise.allSettled(reads);
  await until(() => source.running === 2, 'both are asked for');
  reader.abandon(gone, reason);
  await until(() => source.running === 1, 'one is given up');
  assert.deepEqual(source.abortReasons, [reason]);
  const again = reader.read(segment, stays);
  await until(() => source.running === 2, 'it is asked for anew');
  source.plan = () => 'work';
  source.release();
  assert.ok((await again).equals(plain), 'who comes after it begins anew');
  const outcomes = (await settled).map(({ status }) => status);
  assert.deepEqual(outcomes, ['rejected', 'rejected', 'fulfilled', 'fulfilled']);
  reader.abandon(stays, reason);
  assert.equal(reader.chunksInFlight, 0);
});

test('a fetch that waits for its place is not begun when nobody waits for it', async () => {
  const other = await shelve(shelf, manyBytes(random, 50_000));
  const source = new FaultySource(shelf, 'hold');
  const reader = readerOf(source, 1);
  const [first, second] = [newReadCounters(), newReadCounters()];
  const reading = reader.read(segment, first);
  const waiting = reader.read(other, second);
  await until(() => source.running === 1, 'the first is asked for');
  reader.abandon(second, new Error('unmounted'));
  source.release();
  await reading;
  await assert.rejects(waiting, /unmounted/);
  assert.equal(source.gets, 1);
});

test('a prefetch brings a chunk into memory, once, and fails in silence', async () => {
  const reader = readerOf(shelf);
  const counters = newReadCounters();
  assert.equal(await reader.prefetch(segment, counters), true);
  assert.ok(reader.peek(segment, counters)!.equals(plain));
  assert.equal(counters.chunksFetched, 1);
  assert.equal(await reader.prefetch(segment, counters), true);
  assert.deepEqual(shelf.calls, [`get ${segment.id}`], 'what is in memory is not fetched');

  const faulty = new FaultySource(shelf, 'fault');
  const failing = readerOf(faulty);
  assert.equal(await failing.prefetch(segment, counters), false);
  faulty.plan = () => {
    throw new PrefetchShed('too many wait already');
  };
  assert.equal(await failing.prefetch(segment, counters), false);
  assert.equal(failing.chunksInFlight, 0);
});

test('a read that joins a prefetch wants it, and it counts as a read from then on', async () => {
  const source = new FaultySource(shelf, 'hold');
  const reader = readerOf(source);
  const counters = newReadCounters();
  const prefetch = reader.prefetch(segment, counters);
  await until(() => source.running === 1, 'it is asked for');
  assert.equal(source.asked[0]!.prefetch!.wanted, false);
  assert.equal(await reader.prefetch(segment, counters), true, 'it is on its way');
  assert.equal(source.asked[0]!.prefetch!.wanted, false);
  const read = reader.read(segment, counters);
  assert.equal(source.asked[0]!.prefetch!.wanted, true);
  source.release();
  assert.ok((await read).equals(plain) && (await prefetch));
  assert.equal(source.gets, 1);
  assert.deepEqual(Object.fromEntries(counters.hits), { store: 1, 'in-flight': 1 });
});

test('a read gets its chunk although its prefetch is shed', async () => {
  const shedding = new FaultySource(shelf, () => {
    if (shedding.asked.at(-1)?.prefetch === undefined) return 'work';
    throw new PrefetchShed('too many wait already');
  });
  const reader = readerOf(shedding);
  const counters = newReadCounters();
  const prefetch = reader.prefetch(segment, counters);
  const read = reader.read(segment, counters);
  assert.ok((await read).equals(plain) && (await prefetch));
  assert.equal(await readerOf(shedding).prefetch(segment, counters), false);
});

test('reads pass prefetches, which have a quarter of the places', async () => {
  const segments: ChunkSegment[] = [];
  for (let i = 0; i < 20; i++) segments.push(await shelve(shelf, manyBytes(random, 5000)));
  const source = new FaultySource(shelf, 'hold');
  const reader = readerOf(source, 8);
  const counters = newReadCounters();
  const prefetches = segments.slice(0, 12).map(one => reader.prefetch(one, counters));
  await until(() => source.running === 2, 'two are asked for');
  const reads = segments.slice(11, 17).map(one => reader.read(one, counters));
  await until(() => source.running === 8, 'reads have the rest');
  assert.equal(source.gets, 8);
  source.plan = () => 'work';
  source.release();
  await Promise.all([...prefetches, ...reads]);
  assert.equal(source.gets, 17);
});

test('a prefetch is given up with its disk', async () => {
  const source = new FaultySource(shelf, 'hold');
  const reader = readerOf(source);
  const counters = newReadCounters();
  const prefetch = reader.prefetch(segment, counters);
  await until(() => source.running === 1, 'it is asked for');
  reader.abandon(counters, new Error('unmounted'));
  assert.equal(await prefetch, false);
  assert.equal(source.abortReasons.length, 1);
});

test('what a cache has is read however many wait for a lowest tier that does not answer', async () => {
  const cached = await shelve(shelf, manyBytes(random, 50_000));
  const cache = cacheOf(shelf.chunks);
  const missing: ChunkSegment[] = [];
  for (let n = 0; n < 20; n++) missing.push(await shelve(shelf, manyBytes(random, 2000)));
  const store = new FaultySource(shelf, 'hold');
  const reader = readerOf(tiered([cache, coalesced(store)], { log: silentLog }), 4);
  const given = newReadCounters();
  const waiting = missing.map((one, n) => reader.read(one, n < 10 ? given : newReadCounters()));
  const outcomes = Promise.allSettled(waiting);
  await until(() => store.running === 4, 'four have a place');

  assert.equal((await reader.read(cached, newReadCounters())).length, 50_000);
  reader.abandon(given, new Error('unmounted'));
  await until(() => store.running === 4 && store.gets === 8, 'and then four others');
  store.plan = () => 'work';
  store.release();
  const states = (await outcomes).map(({ status }) => status);
  assert.deepEqual(states.slice(0, 10), Array(10).fill('rejected'));
  assert.deepEqual(states.slice(10), Array(10).fill('fulfilled'));
  assert.equal(store.runningMost, 4);
  assert.equal(reader.chunksInFlight, 0);
});

/** The same chunk as a recipe that is wrong states it. */
function misstated(right: ChunkSegment): ChunkSegment {
  return { ...right, key: Buffer.alloc(right.key.length, 1) };
}

/** A cache and a store that do as told, behind all that the daemon puts before them. */
function stack(chunksInFlightMax: number) {
  const cache = new FaultySource(new MemorySource('l1', { verified: false }), 'hold');
  const store = new FaultySource(shelf, 'work');
  const tiers = tiered([cache, coalesced(store)], { log: silentLog });
  return { cache, store, reader: readerOf(tiers, chunksInFlightMax) };
}

test('who gives up leaves a fetch to one with another key, and its place to nobody', async () => {
  const { cache, reader } = stack(4);
  const given = newReadCounters();
  const wrong = reader.read(misstated(segment), given);
  const right = reader.read(segment, newReadCounters());
  const reason = new Error('unmounted');
  await until(() => cache.running === 2, 'the cache is asked');
  reader.abandon(given, reason);
  await assert.rejects(wrong, error => error === reason);
  cache.release();
  assert.ok((await right).equals(plain));
});

test('a read is not shed with a prefetch by a recipe that is wrong', async () => {
  const { cache, store, reader } = stack(4);
  store.plan = () => 'hold';
  const others: Promise<boolean>[] = [];
  // One at the store, and as many waiting for it as may.
  cache.plan = () => 'work';
  for (let n = 0; n < 257; n++) {
    const other = await shelve(shelf, manyBytes(random, 100));
    others.push(reader.prefetch(other, newReadCounters()));
    await nextTurn();
  }
  cache.plan = () => 'hold';
  const wrong = reader.prefetch(misstated(segment), newReadCounters());
  const right = reader.read(segment, newReadCounters());
  await until(() => cache.running === 2, 'the cache is asked');
  store.plan = () => 'work';
  cache.release();
  assert.ok((await right).equals(plain));
  cache.plan = () => 'work';
  store.release();
  await Promise.all([wrong, ...others]);
});

test('a fetch that fails is aborted, for what tiers hold for its answer', async () => {
  const { cache, store, reader } = stack(4);
  cache.plan = () => 'work';
  store.plan = () => 'fault';
  await assert.rejects(reader.read(segment, newReadCounters()));
  assert.equal(cache.asked[0]!.signal!.aborted, true);
  store.plan = () => 'work';
  await reader.read(segment, newReadCounters());
  assert.equal(cache.asked[1]!.signal!.aborted, false);
});

test('flights that nobody may join leave the caches too, and end with their disk', async () => {
  const { cache, store, reader } = stack(2);
  cache.plan = () => 'work';
  store.plan = () => 'hold';
  const cached = await shelve(shelf, manyBytes(random, 50_000));
  await cache.put(cached.id, shelf.chunks.get(cached.id)!);
  const given = newReadCounters();
  const reason = new Error('unmounted');
  const wrong = Promise.allSettled([
    reader.read(segment, newReadCounters()),
    reader.read(misstated(segment), given),
    reader.read({ ...misstated(segment), plainSizeBytes: 1 }, given),
  ]);
  assert.equal((await reader.read(cached, newReadCounters())).length, 50_000);
  reader.abandon(given, reason);
  store.release();
  const reasons = (await wrong).map(({ status }) => status);
  assert.deepEqual(reasons, ['fulfilled', 'rejected', 'rejected']);
  assert.equal(reader.chunksInFlight, 0);
});

test('a read that no tier ever answers ends all the same', async context => {
  context.mock.timers.enable({ apis: ['setInterval'] });
  const source = new FaultySource(shelf, 'hold');
  const reader = readerOf(source);
  const counters = newReadCounters();
  const read = reader.read(segment, counters);
  const outcome = assert.rejects(read, /no answer in 300 s/);
  for (let second = 0; second < 300; second++) context.mock.timers.tick(1000);
  await outcome;
  source.release();
  await until(() => reader.chunksInFlight === 0, 'it ends');
});
