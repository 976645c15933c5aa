import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cutRule, defaultChunkSizes, gearTable, highMask } from '../../src/chunk/rule.ts';

test('the gear table has 256 different words', () => {
  assert.equal(new Set(gearTable).size, 256);
});

test('masks have as many bits as asked for, the highest', () => {
  assert.equal(highMask(20) >>> 0, 0xfffff000);
  assert.equal(highMask(16) >>> 0, 0xffff0000);
});

test('the default rule is the one that the document states', () => {
  assert.deepEqual(cutRule(defaultChunkSizes), {
    minBytes: 64 * 1024,
    switchBytes: 208 * 1024,
    forcedBytes: 1020 * 1024,
    maxBytes: 1024 * 1024,
    strictBits: 20,
    looseBits: 16,
  });
});

test('on random bytes the rule gives chunks of the target size on average', () => {
  const { minBytes, switchBytes, forcedBytes, strictBits, looseBits } = cutRule(defaultChunkSizes);
  const [strict, loose] = [2 ** strictBits, 2 ** looseBits];
  const past = Math.exp(-(switchBytes - minBytes) / strict);
  const mean =
    minBytes +
    strict * (1 - past) +
    past * loose * (1 - Math.exp(-(forcedBytes - switchBytes) / loose));
  assert.ok(Math.abs(mean / defaultChunkSizes.targetBytes - 1) < 0.01, `mean ${mean}`);
});

test('sizes that cannot work are refused', () => {
  const bad = [
    { minBytes: 64, targetBytes: 1000, maxBytes: 65536 },
    { minBytes: 16384, targetBytes: 16384, maxBytes: 65536 },
    { minBytes: 4096, targetBytes: 16384, maxBytes: 16384 },
    { minBytes: 4096, targetBytes: 16384, maxBytes: 65537 },
    { minBytes: 0, targetBytes: 16384, maxBytes: 65536 },
  ];
  for (const sizes of bad) assert.throws(() => cutRule(sizes), { name: 'AssertionError' });
});
