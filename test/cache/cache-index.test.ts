import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ChunkId, parseChunkId } from '../../src/base/digest.ts';
import { CacheIndex } from '../../src/cache/cache-index.ts';
import { seeded } from '../support/random.ts';

const blockBytes = 4096;

function idOf(n: number): ChunkId {
  return parseChunkId(n.toString(16).padStart(64, '0'));
}

function add(index: CacheIndex, n: number, sizeBytes = blockBytes): number[] {
  return index.add(idOf(n), { sizeBytes, touchedMs: 0 }).map(id => Number.parseInt(id, 16));
}

test('sizes are those of whole blocks on the disk', () => {
  const index = new CacheIndex(100 * blockBytes);
  for (const [n, sizeBytes] of [1, 4096, 4097, 100_000].entries()) add(index, n, sizeBytes);
  assert.equal(index.bytes, (1 + 1 + 2 + 25) * blockBytes);
  assert.equal(index.peek(idOf(3))?.sizeBytes, 100_000);
});

test('the least recent goes first', () => {
  const index = new CacheIndex(3 * blockBytes);
  assert.deepEqual([add(index, 1), add(index, 2), add(index, 3)], [[], [], []]);
  assert.deepEqual([add(index, 4), add(index, 5)], [[1], [2]]);
});

test('a burst of chunks that are used once leaves those that were used twice', () => {
  const index = new CacheIndex(100 * blockBytes);
  for (let n = 0; n < 60; n++) {
    add(index, n);
    index.use(idOf(n));
  }
  for (let n = 1000; n < 2000; n++) add(index, n);
  for (let n = 0; n < 60; n++) assert.ok(index.use(idOf(n)), `${n} is still there`);
  assert.equal(index.entries, 100);
});

test('the protected keep to four fifths, and give way to newer ones', () => {
  const index = new CacheIndex(100 * blockBytes);
  for (let n = 0; n < 100; n++) {
    add(index, n);
    index.use(idOf(n));
  }
  // 0 to 19 were demoted by 80 to 99, and go before the protected do.
  const evicted = Array.from({ length: 20 }, (_, i) => add(index, 1000 + i)).flat();
  assert.deepEqual(
    evicted,
    Array.from({ length: 20 }, (_, i) => i),
  );
});

test('shrink takes from probation, then from the protected, down to nothing', () => {
  const index = new CacheIndex(10 * blockBytes);
  for (let n = 0; n < 10; n++) add(index, n);
  for (const n of [0, 1, 2]) index.use(idOf(n));
  const taken = index.shrink(7 * blockBytes).map(id => Number.parseInt(id, 16));
  assert.deepEqual(taken, [3, 4, 5, 6, 7, 8, 9]);
  assert.equal(index.shrink(1).length, 1);
  assert.equal(index.shrink(1e12).length, 2);
  assert.deepEqual([index.entries, index.bytes, index.shrink(1)], [0, 0, []]);
});

test('bytes stay within the bound, and every entry is either there or was named once', () => {
  for (const random of seeded(30)) {
    const index = new CacheIndex(random.between(1, 40) * blockBytes);
    const model = new Map<number, number>();
    for (let step = 0; step < 500; step++) {
      const n = random.below(60);
      const what = `seed ${random.seed}, step ${step}`;
      const action = random.pick(['add', 'use', 'use', 'delete']);
      if (action === 'add') {
        const sizeBytes = random.between(1, index.sizeMaxBytes);
        model.set(n, sizeBytes);
        for (const gone of add(index, n, sizeBytes)) assert.ok(model.delete(gone), what);
      } else if (action === 'use') {
        assert.equal(index.use(idOf(n))?.sizeBytes, model.get(n), what);
      } else {
        index.delete(idOf(n));
        model.delete(n);
      }
      const blocks = [...model.values()].map(sizeBytes => Math.ceil(sizeBytes / blockBytes));
      assert.equal(index.bytes, blocks.reduce((a, b) => a + b, 0) * blockBytes, what);
      assert.equal(index.entries, model.size, what);
      assert.ok(index.bytes <= index.sizeMaxBytes, what);
    }
  }
});
