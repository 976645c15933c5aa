import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ChunkId, parseChunkId } from '../../src/base/digest.ts';
import { Fifo, type Sized } from '../../src/cache/fifo.ts';
import { seeded } from '../support/random.ts';

function idOf(n: number): ChunkId {
  return parseChunkId(n.toString(16).padStart(64, '0'));
}

test('it does as an array would', () => {
  for (const random of seeded(50)) {
    const fifo = new Fifo<Sized>();
    let model: [ChunkId, Sized][] = [];
    for (let step = 0; step < 400; step++) {
      const what = `seed ${random.seed}, step ${step}`;
      const id = idOf(random.below(40));
      const known = model.find(([other]) => other === id);
      assert.equal(fifo.get(id), known?.[1], what);
      const action = random.pick(['push', 'push', 'delete', 'shift']);
      if (action === 'push' && known === undefined) {
        const value = { diskBytes: random.below(100) };
        fifo.push(id, value);
        model.push([id, value]);
      } else if (action === 'delete') {
        assert.equal(fifo.delete(id), known !== undefined, what);
        model = model.filter(item => item !== known);
      } else if (action === 'shift') {
        assert.deepEqual(fifo.shift(), model.shift(), what);
      }
      assert.equal(fifo.size, model.length, what);
      const bytes = model.reduce((sum, [, { diskBytes }]) => sum + diskBytes, 0);
      assert.equal(fifo.bytes, bytes, what);
    }
  }
});

test('taking out the oldest does not become slower the more were taken out', () => {
  const fifo = new Fifo<Sized>();
  const value = { diskBytes: 1 };
  for (let n = 0; n < 100_000; n++) fifo.push(idOf(n), value);
  const before = process.cpuUsage();
  for (let n = 100_000; n < 300_000; n++) {
    fifo.shift();
    fifo.push(idOf(n), value);
  }
  const { user } = process.cpuUsage(before);
  // About 0.2 s; with an iterator for each it is minutes.
  assert.ok(user < 5e6, `${user / 1e6} s`);
  assert.equal(fifo.size, 100_000);
});
