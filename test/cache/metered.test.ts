import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CacheCounters, type GetObservation, metered } from '../../src/cache/metered.ts';
import { testWrapper } from '../contract/chunk-source.ts';
import { FaultySource } from '../support/faulty-source.ts';
import { MemorySource } from '../support/memory-source.ts';
import { Random } from '../support/random.ts';
import { sealedChunks } from '../support/sealed-chunks.ts';

testWrapper('metered', source => metered(source, () => {}));

test('hits, misses, faults and bytes are counted, with the time they took', async () => {
  const [here, away] = sealedChunks(new Random(1), 2);
  const faulty = new FaultySource(new MemorySource('inner', { chunks: [here!] }), 'work');
  const counters = new CacheCounters();
  const seen: GetObservation[] = [];
  let clockMs = 0;
  const observe = (observation: GetObservation) => {
    seen.push(observation);
    counters.observe(observation);
  };
  const source = metered(faulty, observe, () => (clockMs += 2));
  await source.get(here!.id, { sizeBytes: 5000 });
  await source.get(here!.id, { sizeBytes: 5000 });
  await source.get(away!.id, { sizeBytes: 5000 });
  faulty.plan = () => 'fault';
  await assert.rejects(source.get(here!.id, { sizeBytes: 5000 }));
  const signal = AbortSignal.abort(new Error('given up'));
  faulty.plan = () => 'work';
  await assert.rejects(source.get(here!.id, { sizeBytes: 5000, signal }));
  const { hits, misses, faults, hitBytes } = counters;
  assert.deepEqual(
    { hits, misses, faults, hitBytes },
    { hits: 2, misses: 1, faults: 1, hitBytes: 10_000 },
  );
  assert.deepEqual(seen.at(-1), { outcome: 'aborted', sizeBytes: 0, durationMs: 2 });
});
