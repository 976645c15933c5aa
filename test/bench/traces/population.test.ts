import assert from 'node:assert/strict';
import { test } from 'node:test';
import { median } from '../../../bench/numbers.ts';
import { Population, type TraceChunk } from '../../../bench/traces/population.ts';
import { isHexDigest } from '../../../src/base/digest.ts';
import { sealedChunkSizeMaxBytes } from '../../../src/base/limits.ts';
import { Random } from '../../support/random.ts';

const options = { seed: 1, images: 20_000, zipf: 0.9 };

function mean(values: readonly number[]): number {
  return values.reduce((a, b) => a + b) / values.length;
}

function near(value: number, expected: number, tolerance: number): void {
  const state = `${value} is not ${expected} ± ${tolerance}`;
  assert.ok(Math.abs(value - expected) <= tolerance, state);
}

test('the same seed is the same population, whatever was asked before; another is another', () => {
  const [one, two] = [new Population(options), new Population(options)];
  for (let image = 0; image < 100; image++) two.readSet(image, 3);
  for (const image of [0, 1, 17, 19_999]) {
    assert.deepEqual(one.readSet(image), two.readSet(image));
    assert.deepEqual(one.readSet(image, 3), two.readSet(image, 3));
  }
  const other = new Population({ ...options, seed: 2 });
  assert.notDeepEqual(one.readSet(17), other.readSet(17));
});

test('every image has one rank, and starts follow the law of Zipf', () => {
  for (const images of [1, 2, 10, 997, 1024]) {
    const population = new Population({ ...options, images });
    const all = new Set(Array.from({ length: images }, (_, r) => population.imageOfRank(r)));
    assert.equal(all.size, images);
    assert.ok(Math.max(...all) === images - 1 && Math.min(...all) === 0);
  }
  for (const zipf of [0.6, 1, 1.3]) {
    const population = new Population({ seed: 1, images: 1000, zipf });
    const random = new Random(1);
    const starts = new Array<number>(1000).fill(0);
    for (let i = 0; i < 200_000; i++) starts[population.rankOf(random.u32() / 2 ** 32)]!++;
    assert.ok(starts.every(count => count > 0));
    const many = (from: number, to: number) => mean(starts.slice(from, to));
    near(many(10, 20) / many(100, 200), 10 ** zipf, 0.15 * 10 ** zipf);
    assert.equal(population.rankOf(1 - 2 ** -32), 999);
  }
});

test('four of five uploads have no chunk of their own, the others as many as published', () => {
  const population = new Population(options);
  const shares = Array.from({ length: 20_000 }, (_, image) => population.uniqueShare(image));
  const own = shares.filter(share => share > 0);
  near(own.length / shares.length, 0.2, 0.01);
  near(mean(own), 0.043, 0.004);
  near(median(own), 0.025, 0.003);
});

test('a start reads about 25 chunks and 5 MB, each once, of sizes that chunks have', () => {
  const population = new Population(options);
  const bytes: number[] = [];
  const sets: TraceChunk[][] = [];
  for (let image = 0; image < 5000; image++) {
    const chunks = population.readSet(image);
    sets.push(chunks);
    bytes.push(chunks.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0));
    assert.equal(new Set(chunks.map(({ id }) => id)).size, chunks.length);
    for (const { id, sizeBytes } of chunks) {
      assert.ok(isHexDigest(id) && sizeBytes >= 65_536 && sizeBytes <= sealedChunkSizeMaxBytes);
    }
  }
  near(mean(sets.map(({ length }) => length)), 25, 1.5);
  near(mean(bytes), 5_100_000, 300_000);
  near(mean(sets.flat().map(({ sizeBytes }) => sizeBytes)), 204_000, 10_000);
  const sizes = new Map(sets.flat().map(({ id, sizeBytes }) => [id, sizeBytes]));
  for (const { id, sizeBytes } of sets.flat()) assert.equal(sizes.get(id), sizeBytes);
});

test('images share the base more than the runtime, and that more than the application', () => {
  const population = new Population(options);
  const uses = new Map<string, number>();
  const sets = Array.from({ length: 2000 }, (_, image) => population.readSet(image));
  for (const { id } of sets.flat()) uses.set(id, (uses.get(id) ?? 0) + 1);
  const usesAt = (at: number) => mean(sets.map(set => uses.get(set[at]!.id)!));
  const [base, runtime, application, own] = [0, 6, 15, 20].map(usesAt) as [
    number,
    number,
    number,
    number,
  ];
  assert.ok(base > runtime && runtime > 2 * application && application > own);
});

test('a deploy leaves most of what a start reads, and often all of it', () => {
  const population = new Population(options);
  let [same, kept, all] = [0, 0, 0];
  for (let image = 0; image < 1000; image++) {
    const before = new Set(population.readSet(image, 4).map(({ id }) => id));
    const after = population.readSet(image, 5);
    const known = after.filter(({ id }) => before.has(id)).length;
    if (known === after.length) same++;
    kept += known;
    all += after.length;
  }
  near(same / 1000, 0.8, 0.04);
  assert.ok(kept / all > 0.92 && kept / all < 0.97, `${kept / all}`);
});
