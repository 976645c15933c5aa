import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RetryableFault } from '../../src/base/retry.ts';
import type { CopyingStore } from '../../src/store/copying-store.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { Retrier } from '../../src/store/retry.ts';
import { type ListPage, type PagedStore, retrying } from '../../src/store/retrying.ts';
import { isFault, keysOf, testObjectStore } from '../contract/object-store.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { Random, seeded } from '../support/random.ts';

const pageSize = 3;

/** A store in memory with lists in pages, of which every request may fail before or after its work. */
class FlakyStore extends MemoryStore implements PagedStore, CopyingStore {
  calls = 0;
  /** Whether the request of this number fails, and whether its work is done all the same. */
  fails: (call: number) => 'before' | 'after' | undefined = () => undefined;

  override get = (...args: Parameters<ObjectStore['get']>) => this.#do(() => super.get(...args));
  override stat = (...args: Parameters<ObjectStore['stat']>) => this.#do(() => super.stat(...args));
  override put = (...args: Parameters<ObjectStore['put']>) => this.#do(() => super.put(...args));
  override remove = (...args: Parameters<ObjectStore['remove']>) =>
    this.#do(() => super.remove(...args));

  listPage: PagedStore['listPage'] = (prefix, { page = '0', signal }) =>
    this.#do(async () => {
      const objects = [];
      for await (const object of super.list(prefix, signal && { signal })) objects.push(object);
      const from = Number(page);
      const next = from + pageSize < objects.length ? `${from + pageSize}` : undefined;
      return { objects: objects.slice(from, from + pageSize), next } satisfies ListPage;
    });

  override copy: CopyingStore['copy'] = (from, to) =>
    this.#do(async () => {
      const object = this.objects.get(from);
      if (object !== undefined) this.objects.set(to, object);
      return object !== undefined;
    });

  async #do<V>(work: () => Promise<V>): Promise<V> {
    const when = this.fails(this.calls++);
    if (when === 'before') throw new RetryableFault('Cannot do it: lost', {});
    const value = await work();
    if (when === 'after') throw new RetryableFault('Cannot say it: lost', {});
    return value;
  }
}

function patient(random = new Random(1)): Retrier {
  return new Retrier({
    attemptsMax: 50,
    random: () => random.u32() / 2 ** 32,
    sleep: async (_, signal) => signal?.throwIfAborted(),
  });
}

testObjectStore('retrying store', () => {
  const random = new Random(11);
  const store = new FlakyStore();
  store.fails = () => (random.chance(0.3) ? 'before' : undefined);
  return retrying(store, patient());
});

test('a list goes on from the page that failed: each object once', async () => {
  const flaky = new FlakyStore();
  const store = retrying(flaky, patient());
  for (let i = 0; i < 20; i++) await store.put(`k/${i}`, Buffer.alloc(1), { ifAbsent: true });
  flaky.calls = 0;
  flaky.fails = call => (call % 2 === 0 ? 'before' : undefined);
  const keys = await keysOf(store, 'k');
  assert.equal(keys.length, 20);
  assert.equal(new Set(keys).size, 20);
  assert.equal(flaky.calls, 2 * Math.ceil(20 / pageSize));
});

test('an answer that was lost: the second attempt finds the work done', async () => {
  const flaky = new FlakyStore();
  const store = retrying(flaky, patient());
  flaky.fails = call => (call % 2 === 0 ? 'after' : undefined);
  assert.equal(await store.put('a', Buffer.from('x'), { ifAbsent: true }), 'exists');
  assert.equal(await store.put('b', Buffer.from('y'), { ifAbsent: false }), 'created');
  assert.equal(await store.copy('b', 'c'), true);
  assert.equal(await store.copy('none', 'd'), false);
  await store.remove('b');
  assert.deepEqual(await keysOf(store, ''), ['a', 'c']);
  assert.equal((await store.get('c', { sizeMaxBytes: 9 }))?.toString(), 'y');
});

test('a store that never works is given up', async () => {
  const flaky = new FlakyStore();
  flaky.fails = () => 'before';
  const retrier = new Retrier({ attemptsMax: 4, sleep: async () => {} });
  const store = retrying(flaky, retrier);
  await assert.rejects(store.get('k', { sizeMaxBytes: 9 }), isFault('UNAVAILABLE', /4 attempts/));
  await assert.rejects(keysOf(store, ''), isFault('UNAVAILABLE', /4 attempts/));
  assert.equal(flaky.calls, 8);
});

test('of a service that never answers, a read hears within 20 s, a write asks longer', async () => {
  for (const random of seeded(20)) {
    let nowMs = 0;
    const silent = new FlakyStore();
    silent.fails = () => {
      nowMs += 8000;
      return 'before';
    };
    const retrier = new Retrier({
      now: () => nowMs,
      sleep: async waitMs => {
        nowMs += waitMs;
      },
      random: () => random.u32() / 2 ** 32,
    });
    const store = retrying(silent, retrier);
    const elapsedMs = async (work: () => Promise<unknown>) => {
      const began = nowMs;
      await assert.rejects(work(), isFault('UNAVAILABLE'));
      return nowMs - began;
    };
    for (const read of [
      () => store.get('k', { sizeMaxBytes: 9 }),
      () => store.stat('k'),
      () => keysOf(store, ''),
    ]) {
      const ms = await elapsedMs(read);
      assert.ok(ms >= 16_000 && ms <= 20_000, `seed ${random.seed}: ${ms} ms`);
    }
    const ms = await elapsedMs(() => store.put('k', Buffer.alloc(1), { ifAbsent: true }));
    assert.ok(ms >= 60_000 && ms <= 100_000, `seed ${random.seed}: ${ms} ms`);
  }
});
