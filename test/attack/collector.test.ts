/**
 * Whoever can put objects where garbage collection looks: leases, alarms and names cost space, and
 * say nothing of what lives. A marker of deletion is believed, so who may not delete must not be let
 * put below states/.
 */

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { collect } from '../../src/gc/collect.ts';
import { planCollection } from '../../src/gc/plan.ts';
import { nameObjectKey, parseImageName } from '../../src/recipe/name.ts';
import { encodeNameRecord } from '../../src/recipe/name-record.ts';
import { firstRootId, leaseKey } from '../../src/store/format.ts';
import { Roots } from '../../src/store/roots.ts';
import { TestCatalog } from '../support/catalogs.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { manyBytes, verdictOn } from '../support/pushing.ts';
import { Random } from '../support/random.ts';
import { otherKey } from '../support/recipes.ts';
import { push } from './attacker.ts';

const live = [{ path: 'live', content: manyBytes(new Random(1), 90_000) }];
const dead = [{ path: 'dead', content: manyBytes(new Random(2), 90_000) }];
const nothing = new Uint8Array();

/** A store with one image that a name means, and one that none does any more. */
async function storeWithGarbage(): Promise<MemoryStore> {
  const store = new MemoryStore();
  await push(store, 'app', dead);
  await push(store, 'app', live);
  return store;
}

async function gc(store: MemoryStore) {
  const roots = new Roots(store);
  const { steps, problems } = await collect(roots, await planCollection(roots, { graceMs: 0 }));
  const waits = steps.flatMap(step => (step.do === 'wait' ? step.for : []));
  return { did: new Set(steps.map(step => step.do)), waits, problems };
}

async function isWhole(store: MemoryStore, name: string): Promise<boolean> {
  const catalog = new TestCatalog(store);
  const { recipe } = await catalog.open(parseImageName(name));
  return (await verdictOn(recipe, catalog.roots)).faults.length === 0;
}

test('hostile leases and alarms hold up a collection, and take nothing from anybody', async () => {
  const store = await storeWithGarbage();
  const lease = leaseKey(firstRootId, randomUUID());
  await store.put(lease, nothing, { ifAbsent: true });
  const held = await gc(store);
  assert.ok(held.waits.includes('push') && !held.did.has('delete'), 'not held: it costs space');
  assert.ok(await isWhole(store, 'app'));
  store.objects.delete(lease);
  await store.put('states/r0001.expired', nothing, { ifAbsent: true });
  await store.put('states/r0001.alarm', nothing, { ifAbsent: true });
  assert.ok((await gc(store)).did.has('revive'));
  assert.ok(await isWhole(store, 'app'));
  assert.ok((await gc(store)).did.has('delete'), 'when they are gone, it goes on');
  assert.ok(await isWhole(store, 'app'));
});

test('a name that nobody can read stops a collection, and says which it is', async () => {
  const store = await storeWithGarbage();
  await store.put('names/hostile/@1', Buffer.from('{"version":1'), { ifAbsent: true });
  const { did, problems } = await gc(store);
  assert.ok(!did.has('delete') && !did.has('expire'), 'not held: it costs space');
  assert.deepEqual(
    problems.flatMap(({ names }) => names),
    ['hostile:1'],
  );
  assert.ok(await isWhole(store, 'app'));
});

test('a forged name keeps another tenant’s recipe alive, and cannot be opened', async () => {
  const store = new MemoryStore();
  const { report } = await push(store, 'app', dead);
  await push(store, 'app', live);
  const forged = parseImageName('forged');
  const record = { recipeId: report.recipe, pushed: '2026-01-02T03:04:05.678Z' };
  const bytes = encodeNameRecord(forged, record, otherKey);
  await store.put(`names/${nameObjectKey(forged)}`, bytes, { ifAbsent: true });
  await gc(store);
  const ids = await new TestCatalog(store).chunkIds(report.recipe);
  assert.equal(ids?.length, report.chunks, 'not held: it costs space');
  await assert.rejects(new TestCatalog(store, otherKey).open(forged), { code: 'CORRUPT' });
  assert.ok(await isWhole(store, 'app'));
});

test('a marker of deletion is believed: who may put it deletes', async () => {
  const store = await storeWithGarbage();
  await store.put('states/r0002.opened', nothing, { ifAbsent: true });
  await store.put('states/r0001.deleted', nothing, { ifAbsent: true });
  await gc(store);
  assert.equal([...store.objects.keys()].filter(key => key.startsWith('roots/r0001/')).length, 0);
  await assert.rejects(isWhole(store, 'app'), { code: 'CORRUPT' });
});
