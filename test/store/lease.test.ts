import assert from 'node:assert/strict';
import { test } from 'node:test';
import { leaseRenewalMs } from '../../src/base/limits.ts';
import { RootLease } from '../../src/store/lease.ts';
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
