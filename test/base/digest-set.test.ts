import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sha256Hex } from '../../src/base/digest.ts';
import { DigestSet } from '../../src/base/digest-set.ts';
import { seeded } from '../support/random.ts';

test('it holds what was added, and nothing else', () => {
  for (const random of seeded(5)) {
    const set = new DigestSet();
    const expected = new Set<string>();
    for (let i = 0; i < 5000; i++) {
      const digest = sha256Hex(Buffer.from(String(random.below(4000))));
      assert.equal(set.add(digest), !expected.has(digest), `seed ${random.seed}`);
      expected.add(digest);
      assert.equal(set.size, expected.size);
    }
    for (let i = 0; i < 8000; i++) {
      const digest = sha256Hex(Buffer.from(String(i)));
      assert.equal(set.has(digest), expected.has(digest), `seed ${random.seed}, ${i}`);
    }
  }
});

test('digests that were chosen to lie together: all zeros, one word apart, many of one word', () => {
  const set = new DigestSet();
  const digests = [
    '0'.repeat(64),
    'f'.repeat(64),
    ...Array.from(
      { length: 20_000 },
      (_, i) => `${i.toString(16).padStart(8, '0').padStart(32, '0')}`,
    ),
    ...Array.from(
      { length: 20_000 },
      (_, i) => `${i.toString(16).padStart(8, '0')}${'0'.repeat(24)}`,
    ),
  ].map(start => start.padEnd(64, 'a'));
  for (const digest of digests) set.add(digest);
  for (const digest of digests) assert.ok(set.has(digest), digest);
  // The first word of 0 and of 1 are one: see the file's comment on what may count as one.
  assert.ok(set.size >= 40_000 - 3);
});
