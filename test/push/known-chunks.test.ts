import assert from 'node:assert/strict';
import { test } from 'node:test';
import { knownChunks } from '../../src/push/known-chunks.ts';
import { type ImageName, nameObjectKey, parseImageName } from '../../src/recipe/name.ts';
import type { Recipe } from '../../src/recipe/recipe.ts';
import { firstRootId as root } from '../../src/store/format.ts';
import { TestCatalog } from '../support/catalogs.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { fakeChunk, otherKey } from '../support/recipes.ts';
import { WatchedStore } from '../support/watched-store.ts';

const saltId = 'salt of these tests';
const day = (number: number) => new Date(Date.UTC(2026, 0, number));
const app = parseImageName('team/app:1');

/** A recipe of the chunks of these names; the number of bytes is its own. */
function recipeOf(chunks: readonly string[], salt = saltId): Recipe {
  const segments = chunks.map(name => fakeChunk(name, 4096));
  return {
    diskSizeBytes: 4096 * chunks.length,
    metadataSizeBytes: 0,
    segments,
    details: { kind: 'disk', pipeline: 'test', saltId: salt },
  };
}

function namesOf(known: ReadonlyMap<string, unknown>, candidates: readonly string[]): string[] {
  return candidates.filter(name => known.has(fakeChunk(name, 4096).key.toString('hex')));
}

test('chunks of every recipe of this owner and this salt, by key', async () => {
  const store = new MemoryStore();
  const catalog = new TestCatalog(store);
  await catalog.commit(app, recipeOf(['a', 'b', 'a']), { now: day(1) });
  await catalog.commit(parseImageName('other'), recipeOf(['b', 'c']), { now: day(2) });
  await catalog.commit(parseImageName('salted'), recipeOf(['d'], 'another'), { now: day(3) });
  const stranger = new TestCatalog(store, otherKey);
  await stranger.commit(parseImageName('strange'), recipeOf(['e']), { now: day(4) });
  const known = await knownChunks(catalog, app, { saltId, root });
  assert.deepEqual(namesOf(known, ['a', 'b', 'c', 'd', 'e']), ['a', 'b', 'c']);
  assert.equal(known.size, 3);
  const { key, ...chunk } = fakeChunk('a', 4096);
  assert.deepEqual(known.get(key.toString('hex')), { ...chunk, key });
});

test('damaged names and recipes vouch for nothing and stop nothing', async () => {
  const store = new MemoryStore();
  const catalog = new TestCatalog(store);
  await catalog.commit(app, recipeOf(['a']), { now: day(1) });
  const keysBefore = new Set(store.objects.keys());
  await catalog.commit(parseImageName('x'), recipeOf(['b']), { now: day(2) });
  await catalog.commit(parseImageName('y'), recipeOf(['c']), { now: day(2) });
  const [recipe] = [...store.objects.keys()].filter(
    key => key.includes('/recipes/') && !keysBefore.has(key),
  );
  store.objects.get(recipe!)!.bytes.fill(1, 100);
  const names = [...store.objects.keys()].filter(key => key.startsWith('names/'));
  store.objects.set(names[0]!.replace(/[^/]+$/, 'zz'), store.objects.get(names[0]!)!);
  store.objects.get(names[2]!)!.bytes.fill(0x20);
  const known = await knownChunks(catalog, app, { saltId, root });
  assert.deepEqual(namesOf(known, ['a', 'b', 'c']), ['a']);
});

test('the same repository first, then the newest, and not without end', async () => {
  const store = new MemoryStore();
  const catalog = new TestCatalog(store);
  const commit = async (name: ImageName, chunk: string, number: number) => {
    await catalog.commit(name, recipeOf([chunk]), { now: day(number) });
    store.objects.get(`names/${nameObjectKey(name)}`)!.modified = day(number);
  };
  await commit(parseImageName('team/app:old'), 'near', 1);
  // One recipe under three names, of which one is near.
  for (const name of ['a', 'team/app:shared', 'z']) await commit(parseImageName(name), 'shared', 1);
  for (let i = 0; i < 40; i++) await commit(parseImageName(`far-${i}`), `far-${i}`, 2 + i);
  let recipes = 0;
  const watched = new WatchedStore(store, async ({ kind, key }, work) => {
    if (kind === 'get' && key.includes('/recipes/')) recipes++;
    return work();
  });
  const known = await knownChunks(new TestCatalog(watched), app, { saltId, root });
  assert.equal(recipes, 32);
  assert.equal(known.size, 32);
  const newest = Array.from({ length: 30 }, (_, i) => `far-${39 - i}`);
  const candidates = ['near', 'shared', ...newest];
  assert.deepEqual(namesOf(known, candidates), candidates);
});

test('a store that is gone is an error, and so is an abort', async () => {
  const store = new MemoryStore();
  await new TestCatalog(store).commit(app, recipeOf(['a']), { now: day(1) });
  const gone = Object.assign(new Error(), { code: 'GONE' });
  const failing = new WatchedStore(store, async ({ key }, work) => {
    if (key.includes('/recipes/')) throw gone;
    return work();
  });
  const catalog = new TestCatalog(failing);
  await assert.rejects(knownChunks(catalog, app, { saltId, root }), error => error === gone);
  const signal = AbortSignal.abort(new Error('enough'));
  const whole = new TestCatalog(store);
  await assert.rejects(knownChunks(whole, app, { saltId, root, signal }), /enough/);
});
