import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { type ErrorCode, ImgstoreError } from '../../src/base/errors.ts';
import type { Catalog, CatalogEntry } from '../../src/catalog/catalog.ts';
import { headerKeyIdAt } from '../../src/recipe/format.ts';
import { formatImageName, nameObjectKey, parseImageName } from '../../src/recipe/name.ts';
import type { Recipe } from '../../src/recipe/recipe.ts';
import { rewrapRecipe } from '../../src/recipe/sealed-recipe.ts';
import { DirectoryStore } from '../../src/store/directory-store.ts';
import { TestCatalog } from '../support/catalogs.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { seeded } from '../support/random.ts';
import { fixedRecipe, otherKey, ownerKey, randomRecipe } from '../support/recipes.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const now = new Date('2026-01-02T03:04:05.678Z');
const later = new Date('2026-02-02T03:04:05.678Z');
const app = parseImageName('team/app:1.0');

let store: MemoryStore;
let catalog: TestCatalog;

beforeEach(async () => {
  store = new MemoryStore();
  catalog = new TestCatalog(store);
  await catalog.roots.view();
});

function recipeOf(pipeline: string): Recipe {
  const recipe = fixedRecipe();
  return { ...recipe, details: { ...recipe.details, pipeline } };
}

function keysBelow(part: 'names' | 'recipes'): string[] {
  return [...store.objects.keys()].filter(key => key.split('/').includes(part));
}

async function listed(from: Catalog): Promise<Map<string, CatalogEntry>> {
  const entries = new Map<string, CatalogEntry>();
  for await (const entry of from.list()) entries.set(formatImageName(entry.name), entry);
  return entries;
}

function rejectsWith(work: Promise<unknown>, code: ErrorCode, text: RegExp): Promise<void> {
  return assert.rejects(work, (error: unknown) => {
    assert.ok(error instanceof ImgstoreError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(`${error.message}\n${error.hint}`, text);
    return true;
  });
}

test('what is committed is resolved, by name and tag', async () => {
  const { recipeId, changed } = await catalog.commit(app, fixedRecipe(), { now });
  assert.equal(changed, 'created');
  const pushed = now.toISOString();
  assert.deepEqual(await catalog.record(app), { name: app, recipeId, pushed });
  const resolved = await catalog.resolve(app);
  assert.deepEqual(resolved, {
    name: app,
    recipeId,
    pushed,
    recipe: fixedRecipe(),
    root: 'r0001',
  });
  assert.deepEqual(await catalog.open(app), resolved);
  assert.equal(await catalog.resolve(parseImageName('team/app')), undefined);
});

test('a name that is not there', async () => {
  assert.equal(await catalog.record(app), undefined);
  assert.equal(await catalog.resolve(app), undefined);
  await rejectsWith(catalog.open(app), 'NOT_FOUND', /team\/app:1\.0.*imgstore ls/s);
  assert.equal(await catalog.remove(app), false);
  assert.deepEqual(await listed(catalog), new Map());
});

test('a second push replaces what the name means, or leaves it with its time', async () => {
  const first = await catalog.commit(app, recipeOf('1'), { now });
  const again = await catalog.commit(app, recipeOf('1'), { now: later });
  assert.deepEqual(again, { recipeId: first.recipeId, changed: 'unchanged' });
  assert.equal((await catalog.record(app))?.pushed, now.toISOString());
  const second = await catalog.commit(app, recipeOf('2'), { now: later });
  assert.equal(second.changed, 'replaced');
  assert.equal((await catalog.record(app))?.pushed, later.toISOString());
  assert.equal((await catalog.open(app)).recipe.details.pipeline, '2');
  assert.equal(keysBelow('recipes').length, 2, 'the first recipe waits for collection');
});

test('two names of one image share the recipe', async () => {
  const other = parseImageName('team/app:latest');
  const first = await catalog.commit(app, fixedRecipe(), { now });
  const second = await catalog.commit(other, fixedRecipe(), { now });
  assert.deepEqual(second, { recipeId: first.recipeId, changed: 'created' });
  assert.equal(keysBelow('recipes').length, 1);
  assert.equal(await catalog.remove(app), true);
  assert.equal(await catalog.resolve(app), undefined);
  assert.deepEqual((await catalog.open(other)).recipe, fixedRecipe());
});

test('names that are folders of others stand side by side in a directory', async context => {
  const onDisk = new TestCatalog(new DirectoryStore(temporaryFolder(context)));
  const names = ['a', 'a:b', 'a/b', 'a/b/c:d', 'a.example:5000/b'].map(parseImageName);
  for (const name of names) await onDisk.commit(name, recipeOf(formatImageName(name)), { now });
  assert.deepEqual([...(await listed(onDisk)).keys()].sort(), names.map(formatImageName).sort());
  for (const name of names) {
    assert.equal((await onDisk.open(name)).recipe.details.pipeline, formatImageName(name));
  }
});

test('the recipe is there before the name, whichever write fails', async () => {
  const put = store.put.bind(store);
  for (const failing of [1, 2]) {
    let puts = 0;
    store.put = async (key, bytes, options) => {
      if (++puts === failing) throw new ImgstoreError('IO', 'Cannot write: injected');
      return put(key, bytes, options);
    };
    await rejectsWith(catalog.commit(app, fixedRecipe(), { now }), 'IO', /injected/);
    assert.equal(keysBelow('recipes').length, failing - 1);
    assert.equal(await catalog.resolve(app), undefined);
  }
  store.put = put;
  assert.equal((await catalog.commit(app, fixedRecipe(), { now })).changed, 'created');
  assert.deepEqual((await catalog.open(app)).recipe, fixedRecipe());
});

test("another owner's name is listed with its key, and neither opened nor replaced", async () => {
  const theirs = new TestCatalog(store, otherKey);
  const { recipeId } = await theirs.commit(app, fixedRecipe(), { now });
  const before = new Map(store.objects);
  const entry = (await listed(catalog)).get('team/app:1.0');
  const pushed = now.toISOString();
  assert.deepEqual(entry, { state: 'other-key', name: app, recipeId, pushed, keyId: otherKey.id });
  await rejectsWith(catalog.resolve(app), 'KEY', new RegExp(`needs owner key ${otherKey.id}`));
  await rejectsWith(catalog.commit(app, recipeOf('x'), { now }), 'KEY', /imgstore rm/);
  assert.deepEqual(store.objects, before, 'nothing was written');
  assert.equal(await catalog.remove(app), true);
  assert.equal((await catalog.commit(app, recipeOf('x'), { now })).changed, 'created');
});

test('a store that swaps the records of two names is found out', async () => {
  const other = parseImageName('team/app:2.0');
  await catalog.commit(app, recipeOf('1'), { now });
  await catalog.commit(other, recipeOf('2'), { now });
  const [first, second] = keysBelow('names');
  const kept = store.objects.get(first!)!;
  store.objects.set(first!, store.objects.get(second!)!);
  store.objects.set(second!, kept);
  await rejectsWith(catalog.resolve(app), 'CORRUPT', /made for another name/);
  await rejectsWith(catalog.resolve(other), 'CORRUPT', /made for another name/);
  const states = [...(await listed(catalog)).values()].map(({ state }) => state);
  assert.deepEqual(states, ['damaged', 'damaged']);
});

test('a store that swaps two recipes, or loses one, is found out', async () => {
  const other = parseImageName('team/app:2.0');
  await catalog.commit(app, recipeOf('1'), { now });
  await catalog.commit(other, recipeOf('2'), { now });
  const [first, second] = keysBelow('recipes');
  store.objects.set(first!, store.objects.get(second!)!);
  await rejectsWith(catalog.resolve(app), 'CORRUPT', /its bytes have the id/);
  store.objects.delete(second!);
  await rejectsWith(catalog.resolve(other), 'CORRUPT', /is not in the store.*--repair/s);
});

test('damaged records do not end a listing, and a push mends them', async () => {
  const names = Array.from({ length: 50 }, (_, i) => parseImageName(`app:${i}`));
  for (const name of names) await catalog.commit(name, fixedRecipe(), { now });
  const keyOf = (i: number) => keysBelow('names').find(k => k.endsWith(nameObjectKey(names[i]!)))!;
  store.objects.set(keyOf(7), { bytes: Buffer.from('{"version":1}'), modified: now });
  store.objects.set(keyOf(8), { bytes: Buffer.alloc(100_000), modified: now });
  store.objects.set(keyOf(9), { bytes: Buffer.from('{"version":2}'), modified: now });
  store.objects.set(keyOf(7).replace('@7', 'stray'), { bytes: Buffer.alloc(3), modified: now });
  const entries = await listed(catalog);
  assert.equal(entries.size, 50);
  const damaged = [...entries.values()].filter(({ state }) => state === 'damaged');
  assert.deepEqual(damaged.map(({ name }) => name.tag).sort(), ['7', '8', '9']);
  for (const i of [7, 8]) {
    assert.equal((await catalog.commit(names[i]!, fixedRecipe(), { now })).changed, 'replaced');
    assert.deepEqual((await catalog.open(names[i]!)).recipe, fixedRecipe());
  }
  const newer = catalog.commit(names[9]!, fixedRecipe(), { now });
  await rejectsWith(newer, 'UNSUPPORTED', /version 2/);
});

test('a push mends a damaged recipe', async () => {
  const { recipeId } = await catalog.commit(app, fixedRecipe(), { now });
  const [key] = keysBelow('recipes');
  const { bytes } = store.objects.get(key!)!;
  for (const random of seeded(40)) {
    const damaged = Buffer.from(bytes.subarray(0, random.between(1, bytes.length)));
    const at = random.below(damaged.length);
    if (at >= 6 && at < 24) continue; // claims to be of another version or key: not ours to mend
    damaged[at] = damaged[at]! ^ random.between(1, 255);
    store.objects.set(key!, { bytes: damaged, modified: now });
    const again = await catalog.commit(app, fixedRecipe(), { now: later });
    assert.deepEqual(again, { recipeId, changed: 'unchanged' }, `seed ${random.seed}`);
    assert.deepEqual(store.objects.get(key!)!.bytes, bytes, `seed ${random.seed}`);
  }
});

test('a recipe that was rewritten for a new owner key is not taken back by the old one', async () => {
  const { recipeId } = await catalog.commit(app, fixedRecipe(), { now });
  const [key] = keysBelow('recipes');
  const { bytes } = store.objects.get(key!)!;
  const rewrapped = rewrapRecipe(bytes, { from: ownerKey, to: otherKey, expectedId: recipeId });
  store.objects.set(key!, { bytes: rewrapped, modified: now });
  const pushing = catalog.commit(parseImageName('again'), fixedRecipe(), { now });
  await rejectsWith(pushing, 'KEY', /rotated/);
  assert.deepEqual(store.objects.get(key!)!.bytes, rewrapped);
});

test('pushes of one name at once: one of the recipes, whole', async () => {
  const recipes = [...seeded(8)].map(randomRecipe);
  const outcomes = await Promise.all(recipes.map(r => catalog.commit(app, r, { now })));
  assert.equal(outcomes.filter(({ changed }) => changed === 'created').length, 1);
  const { recipe, recipeId } = await catalog.open(app);
  const winner = outcomes.findIndex(outcome => outcome.recipeId === recipeId);
  assert.deepEqual(recipe, recipes[winner]);
});

test('a fault of the store is none of absence or damage', async () => {
  for (let i = 0; i < 40; i++) {
    await catalog.commit(parseImageName(`app:${i}`), fixedRecipe(), { now });
  }
  const fault = new ImgstoreError('UNAVAILABLE', 'Cannot reach the store: injected');
  const get = store.get.bind(store);
  store.get = async (key, options) => {
    if (key.endsWith('@1') || key.endsWith('@2') || key.endsWith('@30')) throw fault;
    return get(key, options);
  };
  await rejectsWith(listed(catalog), 'UNAVAILABLE', /injected/);
  await rejectsWith(catalog.resolve(parseImageName('app:1')), 'UNAVAILABLE', /injected/);
  const pushing = catalog.commit(parseImageName('app:2'), recipeOf('x'), { now });
  await rejectsWith(pushing, 'UNAVAILABLE', /injected/);
});

test('an aborted signal ends each of them', async () => {
  await catalog.commit(app, fixedRecipe(), { now });
  const signal = AbortSignal.abort();
  const aborted = { name: 'AbortError' };
  await assert.rejects(catalog.record(app, { signal }), aborted);
  await assert.rejects(catalog.resolve(app, { signal }), aborted);
  await assert.rejects(catalog.commit(app, recipeOf('x'), { now, signal }), aborted);
  await assert.rejects(catalog.remove(app, { signal }), aborted);
  await assert.rejects(async () => {
    for await (const _ of catalog.list({ signal }));
  }, aborted);
  assert.equal((await listed(catalog)).size, 1);
});

test('a recipe whose header is damaged, which its id does not show, is mended by a rewrite', async () => {
  await catalog.commit(app, fixedRecipe(), { now });
  const [key] = keysBelow('recipes');
  const bytes = Buffer.from(store.objects.get(key!)!.bytes);
  bytes[headerKeyIdAt]! ^= 1;
  await store.put(key!, bytes, { ifAbsent: false });
  await rejectsWith(catalog.resolve(app), 'CORRUPT', /which is not here.*--force/s);
  await catalog.commit(app, fixedRecipe(), { now: later, rewrite: true });
  assert.deepEqual((await catalog.resolve(app))?.recipe, fixedRecipe());
});

test('rollback of a name: a pin holds it, whatever record the store puts in place', async () => {
  const key = `names/${nameObjectKey(app)}`;
  const first = await catalog.commit(app, recipeOf('1'), { now });
  const older = store.objects.get(key)!;
  const second = await catalog.commit(app, recipeOf('2'), { now: later });
  const pinned = { ...app, pinned: second.recipeId };
  assert.equal((await catalog.open(pinned)).recipe.details.pipeline, '2');
  store.objects.set(key, older);
  // The owner made the older record too: nothing in it tells that it is not the newest.
  assert.equal((await catalog.open(app)).recipeId, first.recipeId);
  const reason = new RegExp(`means recipe ${first.recipeId}.*not ${second.recipeId}`);
  await rejectsWith(catalog.open(pinned), 'NOT_FOUND', reason);
});

test('each image is opened with the key that it names, of whichever owner', async () => {
  const theirs = parseImageName('theirs');
  await catalog.commit(app, fixedRecipe(), { now });
  await new TestCatalog(store, otherKey).commit(theirs, recipeOf('x'), { now });
  const both = new TestCatalog(store, ownerKey, otherKey);
  assert.deepEqual((await both.open(app)).recipe, fixedRecipe());
  assert.deepEqual((await both.open(theirs)).recipe, recipeOf('x'));
  const states = [...(await listed(both)).values()].map(({ state }) => state);
  assert.deepEqual(states, ['readable', 'readable']);
});

test('a recipe of an older root is found, and says where it lies', async () => {
  const { recipeId } = await catalog.commit(app, fixedRecipe(), { now });
  await store.put('states/r0002.opened', Buffer.alloc(0), { ifAbsent: true });
  const fresh = new TestCatalog(store);
  const resolved = await fresh.open(app);
  assert.equal(resolved.root, 'r0001');
  assert.ok(await fresh.chunkIds(recipeId));
  const again = await fresh.commit(app, fixedRecipe(), { now: later });
  assert.equal(again.changed, 'unchanged');
  assert.equal((await fresh.open(app)).root, 'r0002', 'the push stored it in its own root');
});

test('the name is not written if the root was lost while the recipe was', async () => {
  const lost = new ImgstoreError('BUSY', 'Cannot push to root r0001: it was collected');
  const target = {
    root: await catalog.roots.active(),
    check: async () => {
      throw lost;
    },
  };
  await rejectsWith(catalog.commit(app, fixedRecipe(), { now, target }), 'BUSY', /collected/);
  assert.equal(await catalog.record(app), undefined);
});
