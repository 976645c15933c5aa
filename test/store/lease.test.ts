import assert from 'node:assert/strict';
import { test } from 'node:test';
import { leaseAgeMaxMs, leaseRenewalMs, leftoverAgeMinMs } from '../../src/base/limits.ts';
import type { RootId } from '../../src/store/format.ts';
import { heldSince, listLeases, RootLease, removeDeadLeases } from '../../src/store/lease.ts';
import { isFault, keysOf } from '../contract/object-store.ts';
import { rootsOf } from '../support/catalogs.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { WatchedStore } from '../support/watched-store.ts';

async function open(store: MemoryStore, root: string): Promise<void> {
  await store.put(`states/${root}.opened`, Buffer.alloc(0), { ifAbsent: true });
}

test('a lease is there from the first to the last', async () => {
  const store = new MemoryStore();
  {
    await using lease = await RootLease.take(rootsOf(store), undefined);
    assert.equal(lease.root.id, 'r0001');
    assert.equal((await keysOf(store, 'pushes/r0001')).length, 1);
    await lease.check();
  }
  assert.deepEqual(await keysOf(store, 'pushes'), []);
});

test('a root that is retired while the lease is put is given up for the next', async () => {
  const store = new MemoryStore();
  const roots = rootsOf(store);
  await roots.view();
  let puts = 0;
  const watched = new WatchedStore(store, async ({ kind, key }, work) => {
    await work();
    if (kind === 'put' && key.startsWith('pushes/') && ++puts <= 2)
      await open(store, `r000${puts + 1}`);
  });
  await using lease = await RootLease.take(rootsOf(watched), undefined);
  assert.equal(lease.root.id, 'r0003');
  assert.deepEqual(
    (await keysOf(store, 'pushes')).map(key => key.split('/')[1]),
    ['r0003'],
  );
});

test('a root that was retired meanwhile is held on to; one that was expired or deleted is lost', async () => {
  for (const [fact, isLost] of [
    ['opened', false],
    ['expired', true],
    ['deleted', true],
  ] as const) {
    const store = new MemoryStore();
    await using lease = await RootLease.take(rootsOf(store), undefined);
    await open(store, 'r0002');
    if (isLost) await store.put(`states/r0001.${fact}`, Buffer.alloc(0), { ifAbsent: true });
    if (isLost) await assert.rejects(lease.check(), isFault('BUSY', /was collected/));
    else await lease.check();
  }
});

test('a lease is renewed, also after a renewal that failed', async context => {
  context.mock.timers.enable({ apis: ['setInterval'] });
  const store = new MemoryStore();
  let puts = 0;
  const watched = new WatchedStore(store, async ({ kind, key }, work) => {
    if (kind === 'put' && key.startsWith('pushes/') && ++puts === 2) throw new Error('down');
    return work();
  });
  {
    await using lease = await RootLease.take(rootsOf(watched), undefined);
    context.mock.timers.tick(leaseRenewalMs);
    assert.equal(puts, 2);
    context.mock.timers.tick(leaseRenewalMs);
    assert.equal(puts, 3);
    await lease.check();
  }
  context.mock.timers.tick(5 * leaseRenewalMs);
  assert.equal(puts, 3, 'nothing is put after the end');
  assert.deepEqual(await keysOf(store, 'pushes'), []);
});

test('a root is held since its oldest push began, as long as one of them was heard of', async context => {
  context.mock.timers.enable({ apis: ['setInterval'] });
  let nowMs = 1000;
  const store = new MemoryStore({ now: () => nowMs });
  const [r1, r2] = ['r0001', 'r0002'] as RootId[];
  const held = async (root: RootId | undefined, ms: number) =>
    heldSince(root!, await listLeases(store, undefined), new Date(ms))?.getTime();
  const first = await RootLease.take(rootsOf(store), undefined);
  nowMs = 5000;
  await using _second = await RootLease.take(rootsOf(store), undefined);
  await store.put('pushes/r0001/foreign', Buffer.alloc(0), { ifAbsent: true });
  assert.equal((await listLeases(store, undefined)).length, 2);
  assert.equal(await held(r1, 6000), 1000);
  assert.equal(await held(r2, 6000), undefined);
  assert.equal(await held(r1, 1001 + leaseAgeMaxMs), 5000);
  assert.equal(await held(r1, 5001 + leaseAgeMaxMs), undefined);
  nowMs = leaseAgeMaxMs;
  context.mock.timers.tick(leaseRenewalMs);
  assert.equal(await held(r1, 2 * leaseAgeMaxMs), 1000, 'a renewal keeps the time of the begin');
  await first[Symbol.asyncDispose]();
  assert.equal(await held(r1, 2 * leaseAgeMaxMs), 5000);
});

test('what dead pushes left is removed after a day, and nothing else', async () => {
  let nowMs = 0;
  const store = new MemoryStore({ now: () => nowMs });
  const roots = rootsOf(store);
  const dead = await RootLease.take(roots, undefined);
  nowMs = leftoverAgeMinMs / 2;
  await using _alive = await RootLease.take(roots, undefined);
  await removeDeadLeases(store, new Date(leftoverAgeMinMs - 1), undefined);
  assert.equal((await listLeases(store, undefined)).length, 2);
  await removeDeadLeases(store, new Date(leftoverAgeMinMs), undefined);
  assert.equal((await listLeases(store, undefined)).length, 1);
  await dead[Symbol.asyncDispose]();
});
