import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Admission } from '../../src/cache/admission.ts';
import { bounded } from '../../src/cache/bounded.ts';
import { Prefetch, PrefetchShed } from '../../src/cache/prefetch.ts';
import { testWrapper } from '../contract/chunk-source.ts';
import { FaultySource } from '../support/faulty-source.ts';
import { MemorySource } from '../support/memory-source.ts';
import { Random, seeded } from '../support/random.ts';
import { sealedChunks } from '../support/sealed-chunks.ts';

function places(atOnceMax: number): Admission {
  return new Admission({ atOnceMax, prefetchAtOnceMax: 1, prefetchWaitingMax: 1 });
}

testWrapper('bounded', source => bounded(source, places(2)));

const sizeBytes = 5000;

test('no more gets run than there are places, whoever gives up', async () => {
  for (const random of seeded(30)) {
    const chunks = sealedChunks(random, 3);
    const behaviours = ['work', 'fault', 'hold'] as const;
    const inner = new MemorySource('inner', { chunks });
    const slow = new FaultySource(inner, () => random.pick(behaviours));
    const admission = places(3);
    const source = bounded(slow, admission);
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
    assert.deepEqual([admission.running, admission.demandWaiting], [0, 0], `seed ${random.seed}`);
  }
});

test('who gives up while waiting is let go at once, and never asks', async () => {
  const [chunk] = sealedChunks(new Random(1), 1);
  const slow = new FaultySource(new MemorySource('inner', { chunks: [chunk!] }), 'hold');
  const source = bounded(slow, places(2));
  const others = [1, 2].map(() => source.get(chunk!.id, { sizeBytes }));
  const abort = new AbortController();
  const waiting = source.get(chunk!.id, { sizeBytes, signal: abort.signal });
  await nextTurn();
  abort.abort(new Error('given up'));
  await assert.rejects(waiting, /given up/);
  slow.release();
  for (const hit of await Promise.all(others)) assert.ok(hit);
  await nextTurn();
  assert.equal(slow.gets, 2);
});

test('a prefetch that finds no room is shed without asking; one that is wanted is not', async () => {
  const [chunk] = sealedChunks(new Random(1), 1);
  const slow = new FaultySource(new MemorySource('inner', { chunks: [chunk!] }), 'hold');
  const source = bounded(slow, places(2));
  const prefetches = Array.from({ length: 3 }, () => new Prefetch());
  const gets = prefetches.map(prefetch => source.get(chunk!.id, { sizeBytes, prefetch }));
  await assert.rejects(gets[2]!, PrefetchShed);
  assert.equal(slow.gets, 1);
  prefetches[1]!.want();
  await nextTurn();
  assert.equal(slow.gets, 2);
  slow.release();
  assert.ok((await gets[0]) && (await gets[1]));
});
