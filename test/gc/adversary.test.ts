/** What somebody who wants a collection to lose something would try, besides what crash.test.ts does. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { ChunkId } from '../../src/base/digest.ts';
import { ImgstoreError } from '../../src/base/errors.ts';
import { rootSource } from '../../src/cache/store-source.ts';
import { verified } from '../../src/cache/verified.ts';
import { rewrapStore } from '../../src/catalog/rewrap.ts';
import { verifyImage } from '../../src/image/verify.ts';
import { OwnerKey } from '../../src/keys/keys.ts';
import { pushImage } from '../../src/push/push.ts';
import { repairImage } from '../../src/push/repair.ts';
import type { Recipe } from '../../src/recipe/recipe.ts';
import { recipeKeyId } from '../../src/recipe/sealed-recipe.ts';
import { type Root, Roots } from '../../src/store/roots.ts';
import { TestCatalog } from '../support/catalogs.ts';
import { TestImage, targetOn, verdictOn } from '../support/pushing.ts';
import { ownerKey } from '../support/recipes.ts';
import { type StoreCall, WatchedStore } from '../support/watched-store.ts';
import {
  assertReadable,
  assertWhole,
  brief,
  ClockedStore,
  gc,
  hourMs,
  keysOf,
  minuteMs,
  push,
  remove,
  type TestStore,
} from './support.ts';

const image = new TestImage([
  [
    { path: 'a', content: Buffer.from('a'.repeat(300_000)) },
    { path: 'b', content: Buffer.from('b'.repeat(200_000)) },
  ],
]);

/** An image, and something that a collection opens a root for. */
async function storeWithImage(): Promise<ClockedStore> {
  const store = new ClockedStore();
  await pushImage(image, await targetOn(store, 'app'));
  await push(store, 'gone', ['gone']);
  await remove(store, 'gone');
  store.nowMs += 1;
  return store;
}

function damage(store: ClockedStore, root: string): void {
  for (const key of keysOf(store, `roots/${root}/chunks/`)) {
    const { bytes, modified } = store.objects.get(key)!;
    const other = Buffer.from(bytes);
    other[other.length - 1]! ^= 1;
    store.objects.set(key, { bytes: other, modified });
  }
}

/** Something else happens before the first call that `is` tells. */
function before(
  store: TestStore,
  is: (call: StoreCall) => boolean,
  other: () => Promise<unknown>,
): WatchedStore {
  let isDone = false;
  return new WatchedStore(store, async (call, work) => {
    if (!isDone && is(call)) {
      isDone = true;
      await other();
    }
    return work();
  });
}

async function faultsOf(store: TestStore): Promise<number> {
  const target = await targetOn(store, 'app');
  const { recipe } = await target.catalog.open(target.name);
  return (await verdictOn(recipe, target.roots)).faults.length;
}

const isChunkPut = ({ kind, key }: StoreCall) => kind === 'put' && key.includes('/chunks/');

test('a push that mends, and a collection copies what is damaged before it is mended', async () => {
  const store = await storeWithImage();
  damage(store, 'r0001');
  const watched = before(store, isChunkPut, () => gc(store, { graceMs: hourMs }));
  const target = await targetOn(watched, 'app', { rewrite: true });
  await assert.rejects(pushImage(image, target), { code: 'BUSY' });
  await pushImage(image, await targetOn(store, 'app', { rewrite: true }));
  assert.equal(await faultsOf(store), 0);
  store.nowMs += hourMs;
  await gc(store, { graceMs: 0 });
  assert.equal(await faultsOf(store), 0, 'when the root that was mended first is gone');
});

async function repair(store: TestStore): Promise<void> {
  const target = await targetOn(store, 'app');
  const resolved = await target.catalog.open(target.name);
  const brokenIn = async (of: Recipe, root: Root) => {
    const source = verified(rootSource(target.roots, root));
    const { faults } = await verifyImage(of, source, { onProgress: () => {} });
    return new Set<ChunkId>(faults.flatMap(({ chunk }) => chunk ?? []));
  };
  const source = { kind: 'oci', reference: 'oci:image', image } as const;
  const broken = { recipeId: resolved.recipeId, recipe: resolved };
  await repairImage(source, broken, { ...target, ownerKey, brokenIn });
}

test('a repair, and a collection copies what is damaged before it is mended', async () => {
  const store = await storeWithImage();
  damage(store, 'r0001');
  const watched = before(store, isChunkPut, () => gc(store, { graceMs: hourMs }));
  await assert.rejects(repair(watched), { code: 'BUSY' });
  await repair(store);
  assert.equal(await faultsOf(store), 0);
});

test('what a push or repair puts whole is not replaced by a copy that is damaged', async () => {
  const store = await storeWithImage();
  damage(store, 'r0001');
  const isCopy = ({ kind }: StoreCall) => kind === 'copy';
  await gc(
    before(store, isCopy, () => repair(store)),
    { graceMs: hourMs },
  );
  assert.equal(await faultsOf(store), 0);
});

async function smallStore(): Promise<ClockedStore> {
  const store = new ClockedStore();
  await push(store, 'kept', ['kept']);
  await push(store, 'gone', ['gone']);
  await remove(store, 'gone');
  store.nowMs += 1;
  return store;
}

test('a rotation and a collection: no recipe that a name needs is left under the old key', async () => {
  const to = new OwnerKey(Buffer.alloc(32, 0x77));
  for (let nth = 1; ; nth++) {
    const store = await smallStore();
    let calls = 0;
    const isNth = () => ++calls === nth;
    const watched = before(store, isNth, () => gc(store, { graceMs: hourMs }));
    const options = { from: ownerKey, to, onProblem: (line: string) => assert.fail(line) };
    await rewrapStore(new Roots(watched), options);
    if (calls < nth) break;
    const ids = keysOf(store, 'roots/')
      .filter(key => key.includes('/recipes/'))
      .map(key => recipeKeyId(store.objects.get(key)!.bytes));
    assert.ok(!ids.includes(ownerKey.id), `collected at call ${nth}: ${ids}`);
    for (const { name } of await namesOf(store)) await new TestCatalog(store, to).open(name);
  }
});

test('a collection and a rotation: no recipe that a name needs is left under the old key', async () => {
  const to = new OwnerKey(Buffer.alloc(32, 0x77));
  for (let nth = 1; ; nth++) {
    const store = await smallStore();
    let calls = 0;
    const options = { from: ownerKey, to, onProblem: (line: string) => assert.fail(line) };
    const rotate = () => rewrapStore(new Roots(store), options);
    await gc(
      before(store, () => ++calls === nth, rotate),
      { graceMs: hourMs },
    );
    if (calls < nth) break;
    for (const { name } of await namesOf(store)) await new TestCatalog(store, to).open(name);
  }
});

async function namesOf(store: TestStore) {
  return Array.fromAsync(new TestCatalog(store).names());
}

test('a reader that slept raises the alarm with its first read', async context => {
  const graceMs = 24 * hourMs;
  const store = await smallStore();
  let nowMs = 0;
  context.mock.method(performance, 'now', () => nowMs);
  const reader = new Roots(store);
  await assertReadable(reader, ['gone'], 'mounted');
  for (let day = 1; day <= 8; day++) {
    await gc(store, { graceMs });
    store.nowMs += 12 * hourMs;
    nowMs += 12 * hourMs;
    await assertReadable(reader, ['gone'], `read on day ${day / 2}`);
    await nextTurn();
    store.nowMs += 12 * hourMs;
    nowMs += 12 * hourMs;
  }
});

test('a root that was revived and expired again has its grace', async () => {
  const graceMs = hourMs;
  const store = await smallStore();
  for (let time = 0; time < 2; time++) {
    await gc(store, { graceMs });
    store.nowMs += graceMs;
  }
  const isLease = ({ kind, key }: StoreCall) => kind === 'put' && key.startsWith('pushes/');
  const watched = before(store, isLease, async () => {
    await assertReadable(new Roots(store), ['gone'], 'read when it had expired');
    await gc(store, { graceMs });
    await gc(store, { graceMs });
  });
  const { steps } = await gc(watched, { graceMs });
  assert.ok(!brief(steps).includes('delete r0001'), `${brief(steps)}`);
  await assertReadable(new Roots(store), ['gone'], 'it expired a moment ago');
});

test('an alarm that cannot be put is tried once a minute, however much is read', async context => {
  const store = await smallStore();
  await gc(store, { graceMs: hourMs });
  await store.put('states/r0001.expired', Buffer.alloc(0), { ifAbsent: true });
  let nowMs = 0;
  context.mock.method(performance, 'now', () => nowMs);
  let tries = 0;
  const refusing = new WatchedStore(store, async ({ kind, key }, work) => {
    if (kind !== 'put') return work();
    assert.equal(key, 'states/r0001.alarm');
    tries++;
    if (tries < 3) throw new ImgstoreError('IO', 'it is read-only');
    return work();
  });
  const messages: string[] = [];
  const reader = new Roots(refusing, { onAlarm: message => messages.push(message) });
  for (let minute = 1; minute <= 5; minute++) {
    for (let read = 0; read < 10; read++) await assertReadable(reader, ['gone'], 'mounted');
    assert.equal(tries, Math.min(minute, 3));
    nowMs += minuteMs + 1;
  }
  assert.deepEqual(
    messages.map(message => /gc cannot be told/.test(message)),
    [true, true, false],
  );
});

test('a repair does not undo what was pushed or removed while it ran', async () => {
  const newer = new TestImage([[{ path: 'newer', content: Buffer.from('newer') }]]);
  for (const [change, isThere] of [
    [async (store: TestStore) => pushImage(newer, await targetOn(store, 'app')), true],
    [(store: TestStore) => remove(store, 'app'), false],
  ] as const) {
    const store = await storeWithImage();
    damage(store, 'r0001');
    await gc(store, { graceMs: hourMs });
    // So that the recipe is to be put into another root than where it is.
    for (const key of keysOf(store, 'roots/r0002/recipes/')) store.objects.delete(key);
    const watched = before(store, isChunkPut, () => change(store));
    await assert.rejects(repair(watched), { code: 'BUSY' });
    const target = await targetOn(store, 'app');
    const found = await target.catalog.resolve(target.name);
    assert.equal(found?.recipe.details.manifestDigest, isThere ? newer.manifestDigest : undefined);
  }
});

test('a push that slept and a collection without grace between its last look and its name', async context => {
  let sleptMs = 0;
  const dateNow = Date.now;
  context.mock.method(Date, 'now', () => dateNow() + sleptMs);
  const store = await smallStore();
  const slept = before(
    store,
    ({ kind, key }) => kind === 'put' && key.includes('/recipes/'),
    async () => {
      await gc(store, { graceMs: hourMs });
      sleptMs = 2 * hourMs;
      store.nowMs += sleptMs;
    },
  );
  const isName = ({ kind, key }: StoreCall) => kind === 'put' && key.startsWith('names/');
  await push(
    before(slept, isName, () => gc(store)),
    'late',
    ['late'],
  );
  await assertWhole(store, 'late', ['late']);
  await gc(store);
  await assertWhole(store, 'late', ['late']);
  assert.deepEqual(keysOf(store, 'pushes/'), []);
});
