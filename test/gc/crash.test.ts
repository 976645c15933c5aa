/** A collection cut off at every write, and pushes and collections in the middle of each other. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { leaseAgeMaxMs, leftoverAgeMinMs } from '../../src/base/limits.ts';
import { pushImage } from '../../src/push/push.ts';
import { Roots } from '../../src/store/roots.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { TestImage, targetOn, verdictOn } from '../support/pushing.ts';
import { type StoreCall, WatchedStore } from '../support/watched-store.ts';
import {
  assertExact,
  assertReadable,
  assertWhole,
  ClockedStore,
  type Contents,
  gc,
  keysOf,
  push,
  remove,
  type TestStore,
} from './support.ts';

const names: ReadonlyMap<string, Contents> = new Map([
  ['one', ['shared', 'x', 'y']],
  ['two', ['shared', 'z']],
]);

/** Two images that live and one that does not. */
async function storeWithGarbage(): Promise<ClockedStore> {
  const store = new ClockedStore();
  for (const [name, contents] of names) await push(store, name, contents);
  await push(store, 'gone', ['shared', 'x', 'only here']);
  await remove(store, 'gone');
  store.nowMs += 1;
  return store;
}

const writes: ReadonlySet<StoreCall['kind']> = new Set(['put', 'remove', 'copy']);

/** The store as a process sees it that is killed at its `nth` write, before or after its effect. */
function killedAt(store: TestStore, nth: number, when: 'before' | 'after'): WatchedStore {
  let count = 0;
  return new WatchedStore(store, async ({ kind }, work) => {
    const isLast = writes.has(kind) && ++count === nth;
    if (count > nth || (isLast && when === 'before')) {
      count = Number.POSITIVE_INFINITY;
      throw new Error('killed');
    }
    await work();
    if (!isLast) return;
    count = Number.POSITIVE_INFINITY;
    throw new Error('killed');
  });
}

async function isKilled(work: Promise<unknown>): Promise<boolean> {
  try {
    await work;
    return false;
  } catch (error) {
    assert.equal((error as Error).message, 'killed');
    return true;
  }
}

/** Collects until nothing is left to do, long after whatever ran. */
async function quieten(store: ClockedStore): Promise<void> {
  store.nowMs += leftoverAgeMinMs;
  await gc(store);
  await gc(store);
}

test('a collection that is killed at any write is finished by the next', async () => {
  for (const when of ['before', 'after'] as const) {
    let nth = 1;
    for (; ; nth++) {
      const store = await storeWithGarbage();
      const reader = new Roots(store);
      await reader.view();
      const at = `killed ${when} write ${nth}`;
      if (!(await isKilled(gc(killedAt(store, nth, when))))) break;
      for (const [name, contents] of names) {
        await assertWhole(store, name, contents, at);
        await assertReadable(reader, contents, at);
      }
      await quieten(store);
      await assertExact(store, names, at);
    }
    assert.ok(nth > 20, `${nth} writes`);
  }
});

test('a collection that is killed twice, at any two writes', async () => {
  for (let first = 1; ; first += 2) {
    let second = 1;
    for (; ; second += 2) {
      const store = await storeWithGarbage();
      if (!(await isKilled(gc(killedAt(store, first, 'after'))))) return;
      const wasKilled = await isKilled(gc(killedAt(store, second, 'before')));
      const at = `killed after write ${first} and before ${second}`;
      for (const [name, contents] of names) await assertWhole(store, name, contents, at);
      await quieten(store);
      await assertExact(store, names, at);
      if (!wasKilled) break;
    }
  }
});

/** The store of one process, in the middle of whose `nth` call another process does something. */
function interrupted(store: TestStore, nth: number, other: () => Promise<unknown>) {
  let calls = 0;
  const watched = new WatchedStore(store, async (_call, work) => {
    if (++calls === nth) await other();
    return work();
  });
  return { watched, wasInterrupted: () => calls >= nth };
}

const pushed: Contents = ['shared', 'only here', 'new'];
const after: ReadonlyMap<string, Contents> = new Map([...names, ['new', pushed]]);

async function assertAll(store: ClockedStore, at: string): Promise<void> {
  for (const [name, contents] of after) await assertWhole(store, name, contents, at);
  await gc(store).catch(() => {});
  for (const [name, contents] of after) await assertWhole(store, name, contents, `${at}, then gc`);
  await quieten(store);
  await assertExact(store, after, at);
}

test('a whole collection in the middle of a push, at each of its calls', async () => {
  let nth = 1;
  for (; ; nth++) {
    const store = await storeWithGarbage();
    const { watched, wasInterrupted } = interrupted(store, nth, () => gc(store));
    await push(watched, 'new', pushed);
    if (!wasInterrupted()) break;
    await assertAll(store, `collected at call ${nth} of the push`);
  }
  assert.ok(nth > 15, `${nth} calls`);
});

test('two collections in the middle of a push, at any two of its calls', async () => {
  for (let first = 1; ; first += 2) {
    for (let second = first; ; second += 2) {
      const store = await storeWithGarbage();
      const one = interrupted(store, first, () => gc(store));
      const two = interrupted(one.watched, second, async () => {
        await push(store, 'passing', [`${first}`]);
        await remove(store, 'passing');
        await gc(store);
      });
      await push(two.watched, 'new', pushed);
      if (!one.wasInterrupted()) return;
      if (!two.wasInterrupted()) break;
      await assertAll(store, `collected at calls ${first} and ${second} of the push`);
    }
  }
});

test('a whole push in the middle of a collection, at each of its calls', async () => {
  let nth = 1;
  for (; ; nth++) {
    const store = await storeWithGarbage();
    const { watched, wasInterrupted } = interrupted(store, nth, () => push(store, 'new', pushed));
    await gc(watched);
    if (!wasInterrupted()) break;
    await assertAll(store, `pushed at call ${nth} of the collection`);
  }
  assert.ok(nth > 40, `${nth} calls`);
});

test('a push that begins before a root is opened, and ends at any call after', async () => {
  for (let begin = 1; ; begin += 4) {
    for (let end = begin; ; end++) {
      const store = await storeWithGarbage();
      const reached = Promise.withResolvers<void>();
      const goOn = Promise.withResolvers<void>();
      const pausing = new WatchedStore(store, async ({ kind, key }, work) => {
        if (kind === 'put' && key.includes('/recipes/')) {
          reached.resolve();
          await goOn.promise;
        }
        return work();
      });
      let pushing: Promise<void> | undefined;
      let calls = 0;
      let isOpen = false;
      const watched = new WatchedStore(store, async ({ kind, key }, work) => {
        if (++calls === begin) {
          pushing = push(pausing, 'new', pushed);
          await reached.promise;
        }
        if (calls === end) {
          goOn.resolve();
          await pushing;
        }
        if (kind === 'put' && key === 'states/r0002.opened' && calls < begin) isOpen = true;
        return work();
      });
      await gc(watched);
      if (isOpen) return;
      goOn.resolve();
      await pushing;
      await assertAll(store, `pushed from call ${begin} to call ${end}`);
      if (calls < end) break;
    }
  }
});

test('a push that begins in one call of a collection and goes on in later ones', async () => {
  // The push is let through one call whenever the collection makes one, from its nth call on.
  for (let nth = 1; nth < 90; nth++) {
    const store = await storeWithGarbage();
    const turns: (() => void)[] = [];
    let isCollected = false;
    const slow = new WatchedStore(store, async (_call, work) => {
      if (!isCollected) await new Promise<void>(resolve => turns.push(resolve));
      return work();
    });
    let calls = 0;
    let pushing: Promise<void> | undefined;
    const watched = new WatchedStore(store, async (_call, work) => {
      calls++;
      if (calls === nth) pushing = push(slow, 'new', pushed);
      turns.shift()?.();
      await new Promise(setImmediate);
      return work();
    });
    await gc(watched);
    isCollected = true;
    for (const go of turns.splice(0)) go();
    if (pushing === undefined) {
      assert.ok(nth > 40, `${nth} calls`);
      return;
    }
    await pushing;
    await assertAll(store, `pushed from call ${nth} on`);
  }
});

test('a collection in the middle of another, at each of its calls', async () => {
  for (let nth = 1; ; nth++) {
    const store = await storeWithGarbage();
    const inner = async () => {
      await gc(store);
      // Something for a third to open a root for.
      await push(store, 'passing', ['passing']);
      await remove(store, 'passing');
      store.nowMs += 1;
      await gc(store).catch(isBusy);
    };
    const { watched, wasInterrupted } = interrupted(store, nth, inner);
    await gc(watched).catch(isBusy);
    if (!wasInterrupted()) break;
    const at = `collected at call ${nth} of the collection`;
    for (const [name, contents] of names) await assertWhole(store, name, contents, at);
    await quieten(store);
    await assertExact(store, names, at);
  }
});

function isBusy(error: unknown): void {
  assert.equal((error as { code?: string }).code, 'BUSY');
}

test('a name that is removed in the middle of a collection', async () => {
  for (let nth = 1; ; nth++) {
    const store = await storeWithGarbage();
    const { watched, wasInterrupted } = interrupted(store, nth, () => remove(store, 'two'));
    await gc(watched);
    if (!wasInterrupted()) break;
    const left = new Map([['one', names.get('one')!]]);
    await assertWhole(store, 'one', left.get('one')!);
    await quieten(store);
    await assertExact(store, left, `removed at call ${nth}`);
  }
});

test('a push that slept until its root was deleted fails, and leaves nothing behind', async () => {
  const store = await storeWithGarbage();
  const { watched } = interrupted(store, 9, async () => {
    store.nowMs += leaseAgeMaxMs + 1;
    await gc(store);
  });
  await assert.rejects(push(watched, 'new', pushed), { code: 'BUSY' });
  assert.ok(keysOf(store, 'roots/r0001/').length > 0, 'it went on putting');
  for (const [name, contents] of names) await assertWhole(store, name, contents);
  await quieten(store);
  await assertExact(store, names);
});

test('an image by the whole pipeline, with a collection in the middle', async () => {
  const content = (text: string) => ({ path: `etc/${text}`, content: text.repeat(30_000) });
  const image = new TestImage([[content('a'), content('b')]]);
  for (let nth = 1; ; nth += 7) {
    const store = new MemoryStore();
    const first = new TestImage([[content('a'), content('c')]]);
    await pushImage(first, await targetOn(store, 'first'));
    await pushImage(new TestImage([[content('a'), content('d')]]), await targetOn(store, 'gone'));
    await remove(store, 'gone');
    const { watched, wasInterrupted } = interrupted(store, nth, () => gc(store));
    const target = await targetOn(watched, 'second');
    await pushImage(image, target);
    if (!wasInterrupted()) break;
    for (const collected of [false, true]) {
      if (collected) await gc(store);
      const { catalog, roots } = await targetOn(store, 'second');
      for (const name of ['first', 'second']) {
        const { recipe } = await catalog.open({ name, tag: 'latest' });
        assert.deepEqual((await verdictOn(recipe, roots)).faults, [], `${name}, call ${nth}`);
      }
    }
  }
});
