import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ImgstoreError } from '../../src/base/errors.ts';
import { countOf } from '../../src/base/histogram.ts';
import { getOutcomes, metered, TierMeter } from '../../src/cache/metered.ts';
import { testWrapper } from '../contract/chunk-source.ts';
import { FaultySource } from '../support/faulty-source.ts';
import { MemorySource } from '../support/memory-source.ts';
import { Random } from '../support/random.ts';
import { sealedChunks } from '../support/sealed-chunks.ts';

testWrapper('metered', source => metered(source, new TierMeter('inner')));

const sizeBytes = 5000;

function outcomes(meter: TierMeter): Record<string, number> {
  const { gets } = meter.figures();
  return Object.fromEntries(getOutcomes.map(outcome => [outcome, countOf(gets[outcome])]));
}

test('each outcome is counted with the time that it took', async () => {
  const [here, away] = sealedChunks(new Random(1), 2);
  const inner = new MemorySource('inner', { chunks: [here!] });
  const faulty = new FaultySource(inner, 'work');
  const meter = new TierMeter('inner');
  let clockMs = 0;
  const source = metered(faulty, meter, () => (clockMs += 2));
  await source.get(here!.id, { sizeBytes });
  await source.get(here!.id, { sizeBytes });
  await source.get(away!.id, { sizeBytes });
  faulty.plan = () => 'fault';
  await assert.rejects(source.get(here!.id, { sizeBytes }));
  faulty.plan = () => 'bug';
  await assert.rejects(source.get(here!.id, { sizeBytes }), TypeError);
  faulty.plan = () => {
    throw new ImgstoreError('BUSY', 'Cannot prefetch: too many wait');
  };
  await assert.rejects(source.get(here!.id, { sizeBytes }));
  faulty.plan = () => 'work';
  const signal = AbortSignal.abort(new Error('given up'));
  await assert.rejects(source.get(here!.id, { sizeBytes, signal }));

  assert.deepEqual(outcomes(meter), { hit: 2, miss: 1, fault: 2, aborted: 1, shed: 1 });
  const { hitBytes, inFlight, gets } = meter.figures();
  assert.equal(hitBytes, 2 * sizeBytes);
  assert.equal(inFlight, 0);
  assert.equal(gets.hit.sumMs, 4);
  assert.equal(gets.miss.sumMs, 2);
});

test('what is under way and what is dropped is seen', async () => {
  const [chunk] = sealedChunks(new Random(2), 1);
  const faulty = new FaultySource(new MemorySource('inner', { chunks: [chunk!] }), 'hold');
  const meter = new TierMeter('inner');
  const source = metered(faulty, meter);
  const gets = [1, 2, 3].map(() => source.get(chunk!.id, { sizeBytes }));
  assert.equal(meter.figures().inFlight, 3);
  faulty.release();
  await Promise.all(gets);
  assert.equal(meter.figures().inFlight, 0);
  await source.drop(chunk!.id);
  assert.equal(meter.figures().drops, 1);
});
