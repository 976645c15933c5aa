import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { hkdf } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { DedupSalt, OwnerKey } from '../../src/keys/keys.ts';
import { seeded } from '../support/random.ts';

test('ids are the first half of an HMAC, different for key and salt of the same bytes', () => {
  const bytes = Buffer.alloc(32, 1);
  const expected = (label: string) =>
    createHmac('sha256', bytes).update(label).digest('hex').slice(0, 32);
  assert.equal(new OwnerKey(bytes).id, expected('imgstore owner key id'));
  assert.equal(new DedupSalt(bytes).id, expected('imgstore dedup salt id'));
});

test('whatever prints or serialises a key shows its id alone', () => {
  const secret = Buffer.from('c0ffee00'.repeat(8), 'hex');
  for (const key of [new OwnerKey(secret), new DedupSalt(secret)]) {
    const shown = [
      inspect(key, { showHidden: true, depth: 9, getters: true }),
      inspect({ nested: { key } }, { showHidden: true, depth: 9, getters: true }),
      JSON.stringify({ key }),
      `${key}`,
      Object.values(key).join(),
    ].join('\n');
    assert.ok(shown.includes(key.id));
    assert.doesNotMatch(shown, /c0ffee|c0 ff ee|192, ?255/i);
  }
});

test('a key keeps its own copy of the bytes', () => {
  const bytes = Buffer.alloc(32, 3);
  const key = new OwnerKey(bytes);
  bytes.fill(0);
  assert.deepEqual(key.bytes, Buffer.alloc(32, 3));
});

test('subkeys are HKDF-SHA-256, as a second implementation has it', () => {
  for (const random of seeded(50)) {
    const bytes = random.bytes(32);
    const label = random.text(random.between(1, 60), 'abcdefgh 0123456789');
    const expected = hkdf(sha256, bytes, undefined, Buffer.from(label), 32);
    const actual = new OwnerKey(bytes).subkey(label);
    assert.deepEqual(actual, Buffer.from(expected), `seed ${random.seed}`);
  }
});

test('a secret of another length is a bug', () => {
  assert.throws(() => new OwnerKey(Buffer.alloc(31)), { name: 'AssertionError' });
});
