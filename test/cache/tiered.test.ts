import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ImgstoreError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { Admission } from '../../src/cache/admission.ts';
import { bounded } from '../../src/cache/bounded.ts';
import { coalesced } from '../../src/cache/coalesced.ts';
import { Prefetch, PrefetchShed } from '../../src/cache/prefetch.ts';
import { storeSource } from '../../src/cache/store-source.ts';
import { tiered } from '../../src/cache/tiered.ts';
import { verified } from '../../src/cache/verified.ts';
import { chunkObjectKey } from '../../src/store/format.ts';
import { testChunkSource, testWrapper } from '../contract/chunk-source.ts';
import { isFault } from '../contract/object-store.ts';
import { rootsOf } from '../support/catalogs.ts';
import { FaultySource } from '../support/faulty-source.ts';
import { MemorySource } from '../support/memory-source.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { Random, seeded } from '../support/random.ts';
import { assertSameBytes } from '../support/same-bytes.ts';
import { sealedChunks } from '../support/sealed-chunks.ts';

testWrapper('one tier', source => tiered([source], { log: silentLog }));
testWrapper('two tiers', source => tiered([new MemorySource('upper'), source], { log: silentLog }));
testChunkSource('tiers over a store, as a daemon stacks them', async () => {
  const roots = rootsOf(new MemoryStore());
  const root = await roots.active();
  const admission = new Admission({ atOnceMax: 4, prefetchAtOnceMax: 1, prefetchWaitingMax: 1 });
  const below = coalesced(bounded(verified(storeSource(roots)), admission));
  return {
    source: tiered([new MemorySource('l1'), below], { log: silentLog }),
    seed: async ({ id, sealed }) => {
      await root.chunks.put(chunkObjectKey(id), sealed, { ifAbsent: true });
    },
    keepsPuts: true,
    forgetsSeeds: false,
  };
});

const sizeBytes = 5000;

function create() {
  const chunks = sealedChunks(new Random(1), 2);
  const memories = ['l1', 'l2', 'store'].map(tier => new MemorySource(tier));
  const [l1, l2, store] = memories;
  for (const { id, sealed } of chunks) store!.chunks.set(id, sealed);
  const faulty = new FaultySource(l1!, 'work');
  const lines: string[] = [];
  const log = (level: string, message: string) => void lines.push(`${level} ${message}`);
  const source = tiered([faulty, l2!, store!], { log });
  return { l1: l1!, l2: l2!, store: store!, faulty, lines, source, id: chunks[0]!.id, chunks };
}

test('tiers are asked in order, and a hit below is offered to all above', async () => {
  const { l1, l2, store, source, id } = create();
  assert.equal(source.tier, 'l1+l2+store');
  assert.equal((await source.get(id, { sizeBytes }))?.tier, 'store');
  assert.deepEqual([l1.calls, l2.calls], [[`get ${id}`], [`get ${id}`]], 'not before the answer');
  await source.close();
  assert.ok(l1.chunks.has(id) && l2.chunks.has(id));
  assert.equal((await source.get(id, { sizeBytes }))?.tier, 'l1');
  await l1.drop(id);
  store.calls.length = 0;
  assert.equal((await source.get(id, { sizeBytes }))?.tier, 'l2');
  await source.close();
  assert.ok(l1.chunks.has(id));
  assert.deepEqual(store.calls, ['close']);
});

test('bytes that nobody compared with their id are not offered', async () => {
  const [chunk] = sealedChunks(new Random(1), 1);
  const l1 = new MemorySource('l1');
  const liar = new MemorySource('fleet', { verified: false, chunks: [chunk!] });
  const source = tiered([l1, liar], { log: silentLog });
  assert.ok(await source.get(chunk!.id, { sizeBytes }));
  await source.close();
  assert.equal(l1.chunks.size, 0);
});

test('a failing cache is passed over, with one line when it begins and one when it ends', async () => {
  const { faulty, lines, source, id } = create();
  faulty.plan = () => 'fault';
  for (let i = 0; i < 5; i++) assert.ok(await source.get(id, { sizeBytes }));
  assert.equal(lines.length, 1);
  assert.match(lines[0]!, /^warn Cache tier l1 is passed over: Cannot ask l1/);
  faulty.plan = () => 'work';
  for (let i = 0; i < 5; i++) assert.ok(await source.get(id, { sizeBytes }));
  assert.deepEqual(lines.slice(1), ['info Cache tier l1 works again']);
});

test('a lying cache behind verified() is passed over as well', async () => {
  const { l2, lines, chunks, id } = create();
  const store = new MemorySource('store', { chunks });
  const unverified = new MemorySource('fleet', { verified: false, chunks });
  const liar = verified(new FaultySource(unverified, 'flip'));
  const log = (level: string, message: string) => void lines.push(`${level} ${message}`);
  const source = tiered([l2, liar, store], { log });
  const hit = await source.get(id, { sizeBytes });
  assert.equal(hit?.tier, 'store');
  assertSameBytes(hit.sealed, chunks[0]!.sealed);
  assert.equal(unverified.chunks.has(id), false, 'the bad copy was dropped');
  assert.match(lines[0]!, /from tier fleet: its SHA-256 is another/);
});

test('faults of the last tier and bugs of any reach the caller', async () => {
  const { faulty, source, id, chunks } = create();
  faulty.plan = () => 'bug';
  await assert.rejects(source.get(id, { sizeBytes }), TypeError);
  const last = new FaultySource(new MemorySource('store', { chunks }), 'fault');
  const broken = tiered([new MemorySource('l1'), last], { log: silentLog });
  await assert.rejects(broken.get(id, { sizeBytes }), isFault('UNAVAILABLE'));
});

test('an abort while a cache is asked ends the get: the next tier is not asked', async () => {
  const { faulty, lines, store, source, id } = create();
  faulty.plan = () => 'hold';
  const abort = new AbortController();
  const get = source.get(id, { sizeBytes, signal: abort.signal });
  // A reason that looks like a fault of the tier is none.
  abort.abort(new ImgstoreError('UNAVAILABLE', 'Cannot wait: given up'));
  await assert.rejects(get, /given up/);
  assert.deepEqual([store.calls, lines], [[], []]);
});

test('a prefetch that a cache sheds ends: no line, and the next tier is not asked', async () => {
  const { faulty, lines, l2, store, source, id } = create();
  faulty.plan = () => {
    throw new PrefetchShed('too many wait already');
  };
  const get = source.get(id, { sizeBytes, prefetch: new Prefetch() });
  await assert.rejects(get, PrefetchShed);
  assert.deepEqual([l2.calls, store.calls, lines], [[], [], []]);
});

test('drop and put reach every tier', async () => {
  const { l1, l2, store, source, id, chunks } = create();
  await source.put(id, chunks[0]!.sealed);
  await source.drop(id);
  for (const tier of [l1, l2, store]) {
    assert.deepEqual(tier.calls, [`put ${id}`, `drop ${id}`]);
    assert.equal(tier.chunks.has(id), false);
  }
});

test('a copy that turned out wrong is dropped in the tier that gave it, and there alone', async () => {
  const [chunk] = sealedChunks(new Random(1), 1, sizeBytes);
  const chunks = [chunk!];
  const l1 = new MemorySource('l1', { chunks, verified: false });
  const l2 = new MemorySource('l2', { chunks });
  const source = tiered([l1, l2, new MemorySource('store', { chunks })], { log: silentLog });
  const first = await source.get(chunk!.id, { sizeBytes });
  await source.drop(chunk!.id, first!.tier);
  assert.ok(!l1.chunks.has(chunk!.id) && l2.chunks.has(chunk!.id));
  const second = await source.get(chunk!.id, { sizeBytes });
  assert.equal(second!.tier, 'l2');
});

test('whatever the caches do, every get answers with the right bytes', async () => {
  for (const random of seeded(20)) {
    const chunks = sealedChunks(random, 6, 300);
    const behaviours = ['work', 'fault', 'miss', 'flip'] as const;
    const tier = (name: string) => {
      const inner = new MemorySource(name, { verified: false });
      return verified(new FaultySource(inner, () => random.pick(behaviours)));
    };
    const store = verified(new MemorySource('store', { verified: false, chunks }));
    const source = coalesced(tiered([tier('l1'), tier('l2'), store], { log: silentLog }));
    for (let step = 0; step < 100; step++) {
      const { id, sealed } = random.pick(chunks);
      const hit = await source.get(id, { sizeBytes: 300 });
      assertSameBytes(hit?.sealed, sealed, `seed ${random.seed}, step ${step}`);
      if (random.chance(0.1)) await source.drop(id);
      // Unlike a real store, this one forgets what is dropped.
      await store.put(id, sealed);
    }
    await source.close();
  }
});
