/**
 * Rollback, exchange and forgery of names and recipes, by who can write to the store; and what the
 * holder of another owner's key, or of one that was rotated away, can do with it.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RecipeId } from '../../src/base/digest.ts';
import { type ErrorCode, ImgstoreError } from '../../src/base/errors.ts';
import { rewrapStore } from '../../src/catalog/rewrap.ts';
import type { OwnerKey } from '../../src/keys/keys.ts';
import { knownChunks } from '../../src/push/known-chunks.ts';
import { type ImageReference, nameObjectKey, parseImageName } from '../../src/recipe/name.ts';
import { firstRootId } from '../../src/store/format.ts';
import { TestCatalog } from '../support/catalogs.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { diskOf, manyBytes, salt } from '../support/pushing.ts';
import { Random } from '../support/random.ts';
import { otherKey, ownerKey } from '../support/recipes.ts';
import { push } from './attacker.ts';

const app = parseImageName('app:1');
const appKey = `names/${nameObjectKey(app)}`;
const vulnerable = [{ path: 'bin', content: manyBytes(new Random(1), 100_000) }];
const patched = [{ path: 'bin', content: manyBytes(new Random(2), 100_000) }];

async function rejectsWith(work: Promise<unknown>, code: ErrorCode): Promise<void> {
  await assert.rejects(work, (error: unknown) => {
    assert.ok(error instanceof ImgstoreError, String(error));
    assert.equal(error.code, code, error.message);
    return true;
  });
}

/** What a reader with these keys is given. */
async function openedBy(store: MemoryStore, name: ImageReference, ...keys: OwnerKey[]) {
  return (await new TestCatalog(store, ...keys).open(name)).recipeId;
}

test('rollback of a name: an older record passes for the newest, but not against a pin', async () => {
  const store = new MemoryStore();
  const first = await push(store, 'app:1', vulnerable);
  const record = store.objects.get(appKey)!;
  const second = await push(store, 'app:1', patched);
  store.objects.set(appKey, record);
  assert.equal(await openedBy(store, app), first.report.recipe, 'without a pin it is not held');
  const pinned = { ...app, pinned: second.report.recipe };
  await rejectsWith(openedBy(store, pinned), 'NOT_FOUND');
  // An attacker who lets the name mean the new recipe gives what was wanted.
  await push(store, 'app:1', patched);
  assert.equal(await openedBy(store, pinned), second.report.recipe);
});

test('a record of one name does not stand for another, nor a recipe for another', async () => {
  const store = new MemoryStore();
  const first = await push(store, 'app:1', vulnerable);
  const second = await push(store, 'app:2', patched);
  const record = store.objects.get(appKey)!;
  store.objects.set(appKey, store.objects.get(`names/${nameObjectKey(parseImageName('app:2'))}`)!);
  await rejectsWith(openedBy(store, app), 'CORRUPT');
  store.objects.set(appKey, record);
  const recipes = ({ report }: { report: { recipe: RecipeId } }) =>
    `roots/${firstRootId}/recipes/${report.recipe}`;
  store.objects.set(recipes(first), store.objects.get(recipes(second))!);
  await rejectsWith(openedBy(store, app), 'CORRUPT');
});

test('a store that hides a name or a recipe hides it, and gives nothing in its place', async () => {
  const store = new MemoryStore();
  const { report } = await push(store, 'app:1', vulnerable);
  store.objects.delete(`roots/${firstRootId}/recipes/${report.recipe}`);
  await rejectsWith(openedBy(store, app), 'CORRUPT');
  store.objects.delete(appKey);
  await rejectsWith(openedBy(store, app), 'NOT_FOUND');
});

test('another tenant writes over a name: nobody opens it who does not hold their key', async () => {
  const store = new MemoryStore();
  await push(store, 'app:1', vulnerable);
  store.objects.delete(appKey); // which only a rm, or the store itself, can do
  const { report } = await push(store, 'app:1', patched, { ownerKey: otherKey });
  await rejectsWith(openedBy(store, app, ownerKey), 'KEY');
  // To hold a key is to trust its owner with every name that is read: this is not held.
  assert.equal(await openedBy(store, app, ownerKey, otherKey), report.recipe);
});

test('another tenant’s recipe says nothing of chunks to a push that does not hold its key', async () => {
  const store = new MemoryStore();
  const theirs = await push(store, 'theirs', vulnerable, { ownerKey: otherKey });
  const options = { saltId: salt.id, root: firstRootId };
  const known = (...keys: OwnerKey[]) => knownChunks(new TestCatalog(store, ...keys), app, options);
  assert.equal((await known(ownerKey)).size, 0);
  assert.equal((await known(otherKey)).size, theirs.report.chunks);
});

test('a rotated key: what it opened stays open to who has it, and it vouches while it is held', async () => {
  const store = new MemoryStore();
  const old = otherKey;
  const { report } = await push(store, 'app:1', patched, { ownerKey: old });
  const record = store.objects.get(appKey)!;
  const recipeKey = `roots/${firstRootId}/recipes/${report.recipe}`;
  const recipe = store.objects.get(recipeKey)!;
  // The attacker has the old key, and made this with it before or after the rotation.
  const forged = await push(new MemoryStore(), 'app:1', vulnerable, { ownerKey: old });
  const { roots } = forged;
  await rewrapStore(new TestCatalog(store).roots, {
    from: old,
    to: ownerKey,
    onProblem: assert.fail,
  });
  await rejectsWith(openedBy(store, app, old), 'KEY');
  assert.equal(await openedBy(store, app, ownerKey), report.recipe);
  // The chunks are those of before, and an old header opens with the old key: this is not held.
  store.objects.set(appKey, record);
  store.objects.set(recipeKey, recipe);
  assert.equal(await openedBy(store, app, old), report.recipe);

  for (const [key, object] of (roots.store as MemoryStore).objects) store.objects.set(key, object);
  assert.equal(await openedBy(store, app, ownerKey, old), forged.report.recipe);
  await rejectsWith(openedBy(store, app, ownerKey), 'KEY');
});

test('a rotation takes over what a leaked key forged before it', async () => {
  const store = new MemoryStore();
  await push(store, 'app:1', vulnerable, { ownerKey: otherKey }); // by the attacker
  const catalog = new TestCatalog(store);
  await rewrapStore(catalog.roots, { from: otherKey, to: ownerKey, onProblem: assert.fail });
  const { recipe } = await catalog.open(app);
  const bytes = await diskOf(recipe, catalog.roots).readBuffer(0, recipe.diskSizeBytes);
  assert.ok(bytes.includes(vulnerable[0]!.content), 'not held: the new key vouches for it');
});
