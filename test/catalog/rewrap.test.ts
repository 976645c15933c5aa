import assert from 'node:assert/strict';
import { test } from 'node:test';
import { rewrapStore } from '../../src/catalog/rewrap.ts';
import { OwnerKey } from '../../src/keys/keys.ts';
import { nameObjectKey, parseImageName } from '../../src/recipe/name.ts';
import { parseNameRecord } from '../../src/recipe/name-record.ts';
import { recipeKeyId } from '../../src/recipe/sealed-recipe.ts';
import type { CopyingStore } from '../../src/store/copying-store.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { Roots } from '../../src/store/roots.ts';
import { TestCatalog } from '../support/catalogs.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { fixedRecipe, ownerKey as from, otherKey as strangers } from '../support/recipes.ts';
import { WatchedStore } from '../support/watched-store.ts';

const to = new OwnerKey(Buffer.alloc(32, 0x77));
const names = ['app:1', 'app:2', 'team/web:latest', 'localhost:5000/db:1'].map(parseImageName);
const foreign = parseImageName('foreign:1');

/** Two roots: what the first had is in the second too, but for one recipe, and one came later. */
async function filledStore(): Promise<MemoryStore> {
  const store = new MemoryStore();
  const recipe = (pipeline: string) => {
    const { details, ...rest } = fixedRecipe();
    return { ...rest, details: { ...details, pipeline } };
  };
  const first = new TestCatalog(store, from);
  for (const [at, name] of names.slice(0, 3).entries()) {
    await first.commit(name, recipe(`rule-${at}`), { now: new Date(1.7e12 + at * 1000) });
  }
  const other = new TestCatalog(store, strangers);
  await other.commit(foreign, recipe('rule-0'), { now: new Date(1.7e12) });
  await store.put('roots/r0001/chunks/ab/abcd', Buffer.from('a chunk'), { ifAbsent: true });
  await store.put('states/r0002.opened', new Uint8Array(), { ifAbsent: true });
  const recipes = [...store.objects.keys()].filter(key => key.startsWith('roots/r0001/recipes/'));
  for (const key of recipes.slice(1)) await store.copy(key, key.replace('r0001', 'r0002'));
  await store.put('roots/r0002/recipes/README', Buffer.from('foreign'), { ifAbsent: true });
  const second = new TestCatalog(store, from);
  await second.commit(names[3]!, recipe('rule-3'), { now: new Date(1.7e12 + 3000) });
  return store;
}

function rewrap(store: ObjectStore & CopyingStore, problems: string[] = []) {
  const onProblem = (message: string) => problems.push(message);
  return rewrapStore(new Roots(store), { from, to, onProblem });
}

/** What the store says of every name, but for who sealed it. */
async function meaning(store: ObjectStore & CopyingStore, ...keys: OwnerKey[]): Promise<unknown[]> {
  const catalog = new TestCatalog(store, ...keys);
  return Promise.all(names.map(name => catalog.open(name)));
}

function keyIdsIn(store: MemoryStore): Set<string> {
  const ids = new Set<string>();
  for (const [key, { bytes }] of store.objects) {
    if (/\/recipes\/[0-9a-f]{64}$/.test(key)) ids.add(recipeKeyId(bytes));
    if (key.startsWith('names/')) ids.add(parseNameRecord(bytes, foreign).keyId);
  }
  return ids;
}

function without(store: MemoryStore, part: RegExp): Map<string, Buffer> {
  const kept = [...store.objects].filter(([key]) => !part.test(key));
  return new Map(kept.map(([key, { bytes }]) => [key, bytes]));
}

test('all that the old key sealed opens with the new one alone; nothing else is touched', async () => {
  const store = await filledStore();
  const before = await meaning(store, from);
  const others = without(store, /^names\/(?!foreign)|\/recipes\/[0-9a-f]{64}$/);
  const strangersKeys = [...store.objects].filter(
    ([key, { bytes }]) => key.includes('/recipes/') && keyOf(bytes) === strangers.id,
  );
  const done = await rewrap(store);
  assert.equal(done.names, names.length);
  assert.equal(done.damaged, 0);
  assert.ok(done.recipes >= names.length + 1, 'those of both roots');
  assert.deepEqual(await meaning(store, to), before);
  await assert.rejects(meaning(store, from), { code: 'KEY' });
  assert.deepEqual(keyIdsIn(store), new Set([to.id, strangers.id]));
  assert.deepEqual(without(store, /^names\/(?!foreign)|\/recipes\/[0-9a-f]{64}$/), others);
  for (const [key, { bytes }] of strangersKeys) {
    assert.deepEqual(store.objects.get(key)?.bytes, bytes);
  }
  await new TestCatalog(store, strangers).open(foreign);
  assert.deepEqual(await rewrap(store), { recipes: 0, names: 0, damaged: 0 }, 'nothing is left');
});

function keyOf(bytes: Buffer): string | undefined {
  return bytes.length > 96 ? recipeKeyId(bytes) : undefined;
}

test('a crash at every write: each name opens with both keys, and a second run ends it', async () => {
  const store = await filledStore();
  const { recipes, names: ofNames } = await rewrap(await filledStore());
  const before = await meaning(store, from);
  for (let crashAt = 0; crashAt < recipes + ofNames; crashAt++) {
    for (const when of ['before', 'after'] as const) {
      const crashing = await filledStore();
      let writes = 0;
      const watched = new WatchedStore(crashing, async ({ kind }, work) => {
        if (kind !== 'put') return work();
        // All that come later fail as well: the process is gone.
        if (writes++ < crashAt) return work();
        if (when === 'after' && writes === crashAt + 1) await work();
        throw new Error('crashed');
      });
      await assert.rejects(rewrap(watched), /crashed/);
      assert.deepEqual(await meaning(crashing, to, from), before, `${when} write ${crashAt}`);
      await rewrap(crashing);
      assert.deepEqual(await meaning(crashing, to), before, `${when} write ${crashAt}`);
      assert.deepEqual(keyIdsIn(crashing), new Set([to.id, strangers.id]));
    }
  }
});

test('what is damaged is told and left, and the rest is done', async () => {
  const store = await filledStore();
  const recipe = [...store.objects.keys()].find(key => key.startsWith('roots/r0002/recipes/'))!;
  const bytes = Buffer.from(store.objects.get(recipe)!.bytes);
  from.id.match(/../g)!.forEach((byte, at) => {
    bytes[8 + at] = Number.parseInt(byte, 16);
  });
  bytes[bytes.length - 1]! ^= 1;
  store.objects.set(recipe, { bytes, modified: new Date() });
  const record = nameObjectKey(names[1]!);
  const text = store.objects.get(`names/${record}`)!.bytes.toString();
  const forged = Buffer.from(text.replace(/"mac":"./, '"mac":"x'));
  store.objects.set(`names/${record}`, { bytes: forged, modified: new Date() });
  const other = nameObjectKey(names[2]!);
  const moved = Buffer.from(store.objects.get(`names/${nameObjectKey(names[0]!)}`)!.bytes);
  store.objects.set(`names/${other}`, { bytes: moved, modified: new Date() });

  const problems: string[] = [];
  const done = await rewrap(store, problems);
  assert.equal(done.damaged, 3);
  assert.equal(done.names, names.length - 2);
  assert.deepEqual(problems.length, 3);
  assert.match(problems.join('\n'), /recipe [0-9a-f]{64} of root r0002 is left/);
  assert.match(problems.join('\n'), /record of app:2 is left as it is/);
  assert.match(problems.join('\n'), /record of team\/web:latest is left.*made for another name/);
  assert.deepEqual(store.objects.get(recipe)?.bytes, bytes);
  assert.deepEqual(store.objects.get(`names/${record}`)?.bytes, forged);
});

test('an expired root is left alone', async () => {
  const store = await filledStore();
  await store.put('states/r0001.expired', new Uint8Array(), { ifAbsent: true });
  const first = without(store, /^(?!roots\/r0001)/);
  await rewrap(store);
  assert.deepEqual(without(store, /^(?!roots\/r0001)/), first);
});

test('requests are bounded, and the first failure of the store ends it', async () => {
  const store = await filledStore();
  const recipe = fixedRecipe();
  const catalog = new TestCatalog(store, from);
  for (let at = 0; at < 60; at++) {
    const details = { ...recipe.details, pipeline: `many-${at}` };
    await catalog.commit(
      parseImageName(`many:${at}`),
      { ...recipe, details },
      { now: new Date(0) },
    );
  }
  let running = 0;
  let runningMax = 0;
  let failing = false;
  const watched = new WatchedStore(store, async ({ kind }, work) => {
    if (kind === 'list') return work();
    if (failing && kind === 'put') throw new Error('no space');
    runningMax = Math.max(runningMax, ++running);
    await new Promise(setImmediate);
    return work().finally(() => running--);
  });
  failing = true;
  await assert.rejects(rewrap(watched), /no space/);
  failing = false;
  await rewrap(watched);
  assert.ok(runningMax > 4 && runningMax <= 16, `${runningMax} at once`);
  const signal = AbortSignal.abort(new Error('stopped'));
  const stopped = rewrapStore(new Roots(store), { from, to, onProblem: () => {}, signal });
  await assert.rejects(stopped, /stopped/);
});
