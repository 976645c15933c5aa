/**
 * What lists that lag may do, which S3 has not had since 2020 and other services may. Promised is: with
 * a grace of more than twice their lag, nothing. Without a grace a collection believes its lists: an
 * image that was pushed a moment ago may be lost, which verify tells and a push mends.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseImageName } from '../../src/recipe/name.ts';
import { chunkObjectKey, namesPrefix, statesPrefix } from '../../src/store/format.ts';
import { Roots } from '../../src/store/roots.ts';
import { isFault } from '../contract/object-store.ts';
import { assertWhole, chunkOf, gc, hourMs, push, remove } from '../gc/support.ts';
import { TestCatalog } from '../support/catalogs.ts';
import { FaultyStore } from '../support/faulty-store.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const lagMaxMs = hourMs / 3;

/** One that lives and one that does not; lists of the prefix lag, all others do not. */
async function laggingStore(prefix: string) {
  const clock = new VirtualClock();
  const store = new FaultyStore(new MemoryStore({ now: clock.now }), {
    seed: 1,
    clock,
    rates: {},
    staleMaxMs: lagMaxMs,
  });
  await push(store, 'old', ['common', 'x']);
  await push(store, 'gone', ['y']);
  await remove(store, 'gone');
  clock.advance(2 * lagMaxMs);
  store.rates = ({ kind, key }) => (kind === 'list' && key === prefix ? { stale: 1 } : {});
  return { store, clock };
}

test('a name that lists do not show yet: lost without a grace, told and mended', async () => {
  const { store } = await laggingStore(namesPrefix);
  await push(store, 'new', ['common', 'z']);
  await gc(store, { graceMs: 0 });
  await assertWhole(store, 'old', ['common', 'x']);
  const opening = new TestCatalog(new Roots(store)).open(parseImageName('new'));
  await assert.rejects(opening, isFault('CORRUPT', /recipe [0-9a-f]{64} is not in the store$/));
  await push(store, 'new', ['common', 'z']);
  await assertWhole(store, 'new', ['common', 'z']);
});

test('a name that lists do not show yet: kept with a grace', async () => {
  const { store, clock } = await laggingStore(namesPrefix);
  await push(store, 'new', ['common', 'z']);
  for (let times = 0; times < 5; times++) {
    await gc(store, { graceMs: hourMs });
    await assertWhole(store, 'new', ['common', 'z']);
    clock.advance(hourMs);
  }
  assert.deepEqual(
    (await new Roots(store).view()).roots.map(({ id }) => id),
    ['r0002'],
  );
});

test('a root that lists do not show yet: what is in it is absent for a while, if there is no grace', async () => {
  for (const graceMs of [0, hourMs]) {
    const { store, clock } = await laggingStore(statesPrefix);
    const { segment, sealed } = chunkOf('x');
    const read = async () => {
      const key = chunkObjectKey(segment.id);
      const options = { sizeMaxBytes: 100 };
      const hit = await new Roots(store).find(root => root.chunks.get(key, options), 'chunk');
      return hit?.found;
    };
    const lagging = ({ kind, key }: { kind: string; key: string }) =>
      kind === 'list' && key === statesPrefix ? { stale: 1 } : {};
    for (let times = 0; times < (graceMs === 0 ? 1 : 4); times++) {
      store.rates = {};
      await gc(store, { graceMs });
      store.rates = lagging;
      if (graceMs > 0) assert.deepEqual(await read(), sealed);
      clock.advance(graceMs);
    }
    if (graceMs === 0) assert.equal(await read(), undefined);
    clock.advance(lagMaxMs);
    assert.deepEqual(await read(), sealed);
    store.rates = {};
    assert.equal((await new Roots(store).view()).roots[0].id, 'r0002');
  }
});
