import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bucketBoundsMs, countOf, Histogram, quantileMs, since } from '../../src/base/histogram.ts';
import { Random } from '../support/random.ts';

test('bounds rise from 50 µs to 30 s, each at most 2.5 times the one before', () => {
  assert.equal(bucketBoundsMs[0], 0.05);
  assert.equal(bucketBoundsMs.at(-1), 30_000);
  for (const [i, bound] of bucketBoundsMs.entries()) {
    if (i === 0) continue;
    const step = bound / bucketBoundsMs[i - 1]!;
    assert.ok(step > 1 && step <= 2.5001, `${bound}`);
  }
});

test('a bucket holds what is at most its bound and above the one before', () => {
  for (const [i, bound] of bucketBoundsMs.entries()) {
    const histogram = new Histogram();
    histogram.observe(bound);
    histogram.observe(bound * 1.0001);
    const { counts } = histogram.figures();
    assert.equal(counts[i], 1);
    assert.equal(counts[i + 1], 1);
    assert.equal(countOf(histogram.figures()), 2);
  }
  const histogram = new Histogram();
  histogram.observe(0);
  histogram.observe(1e9);
  const { counts, sumMs } = histogram.figures();
  assert.equal(counts[0], 1);
  assert.equal(counts.at(-1), 1);
  assert.equal(sumMs, 1e9);
});

test('counts, sums, additions and differences agree with plain arithmetic', () => {
  const seed = 11;
  const random = new Random(seed);
  const [first, second, both] = [new Histogram(), new Histogram(), new Histogram()];
  let sumMs = 0;
  for (let i = 0; i < 5000; i++) {
    const durationMs = 10 ** ((random.u32() / 2 ** 32) * 7 - 2);
    sumMs += durationMs;
    (i % 3 === 0 ? first : second).observe(durationMs);
    both.observe(durationMs);
  }
  const added = new Histogram();
  added.add(first.figures());
  added.add(second.figures());
  assert.deepEqual(added.figures().counts, both.figures().counts, `seed ${seed}`);
  assert.ok(Math.abs(added.figures().sumMs - sumMs) < 1e-3);
  assert.deepEqual(since(both.figures(), first.figures()).counts, second.figures().counts);
  assert.deepEqual(since(both.figures(), undefined), both.figures());
});

test('a quantile lies in the bucket of the true one', () => {
  const seed = 12;
  const random = new Random(seed);
  const durations: number[] = [];
  const histogram = new Histogram();
  for (let i = 0; i < 2000; i++) {
    const durationMs = 10 ** ((random.u32() / 2 ** 32) * 5 - 1);
    durations.push(durationMs);
    histogram.observe(durationMs);
  }
  durations.sort((a, b) => a - b);
  for (const q of [0.01, 0.5, 0.9, 0.99, 1]) {
    const truth = durations[Math.ceil(q * durations.length) - 1]!;
    const bucket = bucketBoundsMs.findIndex(bound => truth <= bound);
    const answer = quantileMs(histogram.figures(), q)!;
    assert.ok(answer <= bucketBoundsMs[bucket]!, `${q}: ${answer} for ${truth}, seed ${seed}`);
    assert.ok(answer >= (bucketBoundsMs[bucket - 1] ?? 0), `${q}: ${answer} for ${truth}`);
  }
});

test('quantiles of nothing, of one and of what is beyond all bounds', () => {
  const histogram = new Histogram();
  assert.equal(quantileMs(histogram.figures(), 0.5), undefined);
  histogram.observe(3);
  assert.equal(quantileMs(histogram.figures(), 1), 5);
  assert.equal(quantileMs(histogram.figures(), 0), 2);
  const beyond = new Histogram();
  beyond.observe(60_000);
  assert.equal(quantileMs(beyond.figures(), 0.5), 30_000);
});
