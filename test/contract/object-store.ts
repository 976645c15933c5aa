/** The contract of ObjectStore, run against every implementation by its own test. */

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { ImgstoreError } from '../../src/base/errors.ts';
import { objectKeyLengthMaxBytes } from '../../src/base/limits.ts';
import type { CopyingStore } from '../../src/store/copying-store.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { seeded } from '../support/random.ts';
import { assertSameBytes } from '../support/same-bytes.ts';

/** Each call gives an empty store, removed when the test ends. */
export type StoreFactory = (context: TestContext) => ObjectStore | Promise<ObjectStore>;

const sizeMaxBytes = 1024 * 1024;

export async function keysOf(store: ObjectStore, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of store.list(prefix)) keys.push(key);
  return keys.sort();
}

export function isFault(code: string, state: RegExp = /^Cannot /) {
  return (error: unknown) => {
    assert.ok(error instanceof ImgstoreError, `an ImgstoreError, not ${String(error)}`);
    assert.equal(error.code, code);
    assert.match(error.message, state);
    return true;
  };
}

export function testObjectStore(name: string, create: StoreFactory): void {
  test(`${name}: what was put is there, and a copy of the caller's own`, async context => {
    const store = await create(context);
    const bytes = Buffer.from('some bytes');
    assert.equal(await store.put('a/b', bytes, { ifAbsent: true }), 'created');
    bytes.fill(0);
    const first = await store.get('a/b', { sizeMaxBytes });
    assert.equal(first?.toString(), 'some bytes');
    first.fill(0);
    assert.equal((await store.get('a/b', { sizeMaxBytes }))?.toString(), 'some bytes');
    const stat = await store.stat('a/b');
    assert.equal(stat?.key, 'a/b');
    assert.equal(stat.sizeBytes, 10);
    assert.ok(Math.abs(stat.modified.getTime() - Date.now()) < 60_000);
  });

  test(`${name}: an empty object is an object`, async context => {
    const store = await create(context);
    assert.equal(await store.put('empty', Buffer.alloc(0), { ifAbsent: true }), 'created');
    assert.equal((await store.get('empty', { sizeMaxBytes: 0 }))?.length, 0);
    assert.equal((await store.stat('empty'))?.sizeBytes, 0);
    assert.equal(await store.put('empty', Buffer.from('x'), { ifAbsent: true }), 'exists');
  });

  test(`${name}: absence is an answer, not a fault`, async context => {
    const store = await create(context);
    await store.put('a/b/c', Buffer.from('x'), { ifAbsent: true });
    for (const key of ['x', 'x/y', 'a', 'a/b', 'a/b/c/d', 'a/b/cc']) {
      assert.equal(await store.get(key, { sizeMaxBytes }), undefined, key);
      assert.equal(await store.stat(key), undefined, key);
      await store.remove(key);
    }
    assert.equal((await store.get('a/b/c', { sizeMaxBytes }))?.toString(), 'x');
  });

  test(`${name}: an object over the limit is refused, one at the limit is not`, async context => {
    const store = await create(context);
    await store.put('k', Buffer.alloc(100, 7), { ifAbsent: true });
    assert.equal((await store.get('k', { sizeMaxBytes: 100 }))?.length, 100);
    await assert.rejects(store.get('k', { sizeMaxBytes: 99 }), isFault('LIMIT'));
  });

  test(`${name}: put if absent leaves what is there, put replaces it`, async context => {
    const store = await create(context);
    assert.equal(await store.put('k', Buffer.from('one'), { ifAbsent: true }), 'created');
    assert.equal(await store.put('k', Buffer.from('two'), { ifAbsent: true }), 'exists');
    assert.equal((await store.get('k', { sizeMaxBytes }))?.toString(), 'one');
    assert.equal(await store.put('k', Buffer.from('three'), { ifAbsent: false }), 'created');
    assert.equal((await store.get('k', { sizeMaxBytes }))?.toString(), 'three');
    assert.deepEqual(await keysOf(store, ''), ['k']);
  });

  test(`${name}: of several puts if absent at once, one creates`, async context => {
    const store = await create(context);
    const writers = Array.from({ length: 16 }, (_, i) => Buffer.alloc(50_000, i));
    const outcomes = await Promise.all(
      writers.map(bytes => store.put('race/k', bytes, { ifAbsent: true })),
    );
    assert.equal(outcomes.filter(outcome => outcome === 'created').length, 1);
    const winner = await store.get('race/k', { sizeMaxBytes });
    assertSameBytes(winner, writers[outcomes.indexOf('created')]);
  });

  test(`${name}: a reader sees one whole object while it is replaced`, async context => {
    const store = await create(context);
    const versions = Array.from({ length: 30 }, (_, i) => Buffer.alloc(20_000 + i, i));
    await store.put('k', versions[0]!, { ifAbsent: true });
    let done = false;
    const reader = async () => {
      while (!done) {
        const seen = await store.get('k', { sizeMaxBytes });
        assert.ok(seen !== undefined);
        assertSameBytes(seen, Buffer.alloc(20_000 + seen[0]!, seen[0]));
      }
    };
    const readers = [reader(), reader()];
    for (const bytes of versions) await store.put('k', bytes, { ifAbsent: false });
    done = true;
    await Promise.all(readers);
  });

  test(`${name}: list goes by whole parts, and remove takes out`, async context => {
    const store = await create(context);
    const keys = ['a/b/c', 'a/b/d', 'a/bb/c', 'aa/x', 'top'];
    for (const key of keys) await store.put(key, Buffer.from(key), { ifAbsent: true });
    assert.deepEqual(await keysOf(store, ''), keys);
    assert.deepEqual(await keysOf(store, 'a'), ['a/b/c', 'a/b/d', 'a/bb/c']);
    assert.deepEqual(await keysOf(store, 'a/b'), ['a/b/c', 'a/b/d']);
    assert.deepEqual(await keysOf(store, 'nothing/here'), []);
    assert.deepEqual(await keysOf(store, 'top'), []);
    for await (const stat of store.list('a')) assert.equal(stat.sizeBytes, stat.key.length);
    await store.remove('a/b/c');
    await store.remove('a/b/c');
    await store.remove('aa/x');
    assert.equal(await store.get('a/b/c', { sizeMaxBytes }), undefined);
    assert.deepEqual(await keysOf(store, ''), ['a/b/d', 'a/bb/c', 'top']);
    assert.equal(await store.put('aa/x', Buffer.from('anew'), { ifAbsent: true }), 'created');
    assert.equal((await store.get('aa/x', { sizeMaxBytes }))?.toString(), 'anew');
  });

  test(`${name}: a list can be left in the middle`, async context => {
    const store = await create(context);
    for (let i = 0; i < 40; i++) await store.put(`d${i}/k`, Buffer.alloc(1), { ifAbsent: true });
    for await (const { key } of store.list('')) {
      assert.match(key, /^d\d+\/k$/);
      break;
    }
  });

  test(`${name}: what is no key is refused`, async context => {
    const store = await create(context);
    const long = 'a/'.repeat(objectKeyLengthMaxBytes / 2);
    const wrong = [
      '',
      '/',
      '/a',
      'a/',
      'a//b',
      '.',
      '..',
      'a/..',
      '../a',
      'a/./b',
      'a b',
      'ä',
      'a\0',
    ];
    for (const key of [...wrong, 'a\n', 'a\\b', `${long}b`, 'x'.repeat(256)]) {
      await assert.rejects(store.get(key, { sizeMaxBytes }), isFault('USAGE'), key);
      await assert.rejects(store.stat(key), isFault('USAGE'));
      await assert.rejects(store.remove(key), isFault('USAGE'));
      await assert.rejects(store.put(key, Buffer.alloc(1), { ifAbsent: false }), isFault('USAGE'));
      if (key !== '') await assert.rejects(keysOf(store, key), isFault('USAGE'));
    }
    // Not the very longest: a scope takes some of the 512 bytes.
    for (const key of ['...', 'a/..b', '-', '~%@+=-._', 'x'.repeat(255), long.slice(0, 401)]) {
      assert.equal(await store.put(key, Buffer.alloc(1), { ifAbsent: true }), 'created', key);
      await store.remove(key);
    }
  });

  test(`${name}: an aborted signal rejects with its reason`, async context => {
    const store = await create(context);
    await store.put('k', Buffer.from('x'), { ifAbsent: true });
    const reason = new Error('given up');
    const signal = AbortSignal.abort(reason);
    const isReason = (error: unknown) => error === reason;
    await assert.rejects(store.get('k', { sizeMaxBytes, signal }), isReason);
    await assert.rejects(store.stat('k', { signal }), isReason);
    await assert.rejects(store.put('n', Buffer.alloc(1), { ifAbsent: true, signal }), isReason);
    await assert.rejects(store.remove('k', { signal }), isReason);
    await assert.rejects(async () => {
      for await (const _ of store.list('', { signal }));
    }, isReason);
    assert.deepEqual(await keysOf(store, ''), ['k']);
  });

  test(`${name}: random puts, gets and removes leave what a map would hold`, async context => {
    for (const random of seeded(3)) {
      const store = await create(context);
      const model = new Map<string, Buffer>();
      for (let step = 0; step < 150; step++) {
        const key = `${random.below(4)}x/${random.below(3)}y/${random.below(3)}`;
        const what = `seed ${random.seed}, step ${step}, ${key}`;
        const bytes = random.bytes(random.below(3000));
        const action = random.pick(['put', 'put', 'get', 'remove']);
        if (action === 'put') {
          const ifAbsent = random.chance(0.5);
          const exists = ifAbsent && model.has(key);
          const outcome = await store.put(key, bytes, { ifAbsent });
          assert.equal(outcome, exists ? 'exists' : 'created', what);
          if (!exists) model.set(key, bytes);
        } else if (action === 'remove') {
          await store.remove(key);
          model.delete(key);
        } else {
          assertSameBytes(await store.get(key, { sizeMaxBytes }), model.get(key), what);
        }
      }
      assert.deepEqual(await keysOf(store, ''), [...model.keys()].sort(), `seed ${random.seed}`);
    }
  });
}

/** What a store offers to collection besides. */
export function testCopyingStore(
  name: string,
  create: (context: TestContext) => Promise<ObjectStore & CopyingStore>,
): void {
  test(`${name}: a copy is another object of the same bytes`, async context => {
    const store = await create(context);
    const bytes = Buffer.from('copied');
    await store.put('from/a%+b', bytes, { ifAbsent: false });
    assert.equal(await store.copy('from/a%+b', 'to/x/k'), true);
    await store.put('from/a%+b', Buffer.from('changed'), { ifAbsent: false });
    assertSameBytes(await store.get('to/x/k', { sizeMaxBytes }), bytes);
    await store.remove('from/a%+b');
    assertSameBytes(await store.get('to/x/k', { sizeMaxBytes }), bytes);
    assert.deepEqual(await keysOf(store, ''), ['to/x/k']);
  });

  test(`${name}: a copy replaces what is there, again and again`, async context => {
    const store = await create(context);
    await store.put('a', Buffer.from('1'), { ifAbsent: false });
    await store.put('b', Buffer.from('2'), { ifAbsent: false });
    for (let time = 0; time < 3; time++) assert.equal(await store.copy('a', 'b'), true);
    assert.equal((await store.get('b', { sizeMaxBytes }))?.toString(), '1');
    await Promise.all([store.copy('a', 'c/d'), store.copy('b', 'c/d'), store.copy('a', 'c/e')]);
    assert.equal((await store.get('c/d', { sizeMaxBytes }))?.toString(), '1');
    assert.deepEqual(await keysOf(store, ''), ['a', 'b', 'c/d', 'c/e']);
  });

  test(`${name}: a copy if absent leaves what is there`, async context => {
    const store = await create(context);
    await store.put('a', Buffer.from('1'), { ifAbsent: false });
    await store.put('b', Buffer.from('2'), { ifAbsent: false });
    for (const to of ['b', 'c']) {
      assert.equal(await store.copy('a', to, { ifAbsent: true }), true);
    }
    assert.equal((await store.get('b', { sizeMaxBytes }))?.toString(), '2');
    assert.equal((await store.get('c', { sizeMaxBytes }))?.toString(), '1');
    assert.equal(await store.copy('none', 'd', { ifAbsent: true }), false);
    assert.deepEqual(await keysOf(store, ''), ['a', 'b', 'c']);
  });

  test(`${name}: what is not there is not copied`, async context => {
    const store = await create(context);
    await store.put('old', Buffer.from('1'), { ifAbsent: false });
    for (const from of ['none', 'old/none']) {
      assert.equal(await store.copy(from, 'to'), false, from);
      assert.equal(await store.copy(from, 'old'), false, from);
    }
    await assert.rejects(store.copy('../x', 'to'), isFault('USAGE'));
    await assert.rejects(store.copy('old', 'a//b'), isFault('USAGE'));
    const reason = new Error('enough');
    const signal = AbortSignal.abort(reason);
    await assert.rejects(store.copy('old', 'to', { signal }), error => error === reason);
    assert.deepEqual(await keysOf(store, ''), ['old']);
  });
}
