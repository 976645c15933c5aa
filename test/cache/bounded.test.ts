import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Limiter } from '../../src/base/limiter.ts';
import { bounded } from '../../src/cache/bounded.ts';
import { testWrapper } from '../contract/chunk-source.ts';
import { FaultySource } from '../support/faulty-source.ts';
import { MemorySource } from '../support/memory-source.ts';
import { Random, seeded } from '../support/random.ts';
import { sealedChunks } from '../support/sealed-chunks.ts';

testWrapper('bounded', source => bounded(source, new Limiter(2)));

const sizeBytes = 5000;

test('no more gets run than there are places, whoever gives up', async () => {
  for (const random of seeded(30)) {
    const chunks = sealedChunks(random, 3);
    const behaviours = ['work', 'fault', 'hold'] as const;
    const inner = new MemorySource('inner', { chunks });
    const slow = new FaultySource(inner, () => random.pick(behaviours));
    const limiter = new Limiter(3);
    const source = bounded(slow, limiter);
    const outcomes: Promise<unknown>[] = [];
    for (let step = 0; step < 60; step++) {
      const abort = new AbortController();
      const { id } = random.pick(chunks);
      outcomes.push(source.get(id, { sizeBytes, signal: abort.signal }).catch(() => {}));
      if (random.chance(0.3)) abort.abort(new Error('given up'));
      if (random.chance(0.3)) slow.release();
      if (random.chance(0.3)) await nextTurn();
      if (random.chance(0.3)) abort.abort(new Error('given up'));
    }
    slow.plan = () => 'work';
    for (let i = 0; i < 60; i++) {
      slow.release();
      await nextTurn();
    }
    await Promise.all(outcomes);
    assert.ok(slow.runningMost <= 3, `seed ${random.seed}: ${slow.runningMost}`);
    assert.deepEqual([limiter.running, limiter.waiting], [0, 0], `seed ${random.seed}`);
  }
});

test('who gives up while waiting is let go at once, and never asks', async () => {
  const [chunk] = sealedChunks(new Random(1), 1);
  const slow = new FaultySource(new MemorySource('inner', { chunks: [chunk!] }), 'hold');
  const source = bounded(slow, new Limiter(1));
  const first = source.get(chunk!.id, { sizeBytes });
  const abort = new AbortController();
  const second = source.get(chunk!.id, { sizeBytes, signal: abort.signal });
  abort.abort(new Error('given up'));
  await assert.rejects(second, /given up/);
  slow.release();
  assert.ok(await first);
  await nextTurn();
  assert.equal(slow.gets, 1);
});
