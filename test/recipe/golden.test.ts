/**
 * The bytes of version 1, and a second reader of them, written from docs/format/recipe.md with
 * other primitives than the program's: AES-GCM, HKDF and HMAC of @noble where it takes node's, and
 * XChaCha20-Poly1305 put together from node's ChaCha20 where it takes noble's.
 */

import assert from 'node:assert/strict';
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gcm } from '@noble/ciphers/aes.js';
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js';
import { hkdf } from '@noble/hashes/hkdf.js';
import { hmac } from '@noble/hashes/hmac.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { decodeRecipe, encodeRecipe } from '../../src/recipe/sealed-recipe.ts';
import { seeded } from '../support/random.ts';
import { fixedRecipe, ownerKey } from '../support/recipes.ts';

const file = join(import.meta.dirname, '..', '..', 'fixtures', 'golden', 'recipe-v1.bin');
const golden = readFileSync(file);
const goldenId = '3a91d5097a4bc0cb526358b1b1b0ac1f33b24923883db93798c1e2f01bf466d7';

const subkey = (label: string) =>
  hkdf(sha256, ownerKey.bytes, undefined, Buffer.from(label, 'latin1'), 32);

/** HChaCha20 (draft-irtf-cfrg-xchacha-03, 2.2) by undoing the last addition of a ChaCha20 block. */
function hchacha20(key: Uint8Array, nonce16: Uint8Array): Buffer {
  const block = createCipheriv('chacha20', key, nonce16).update(Buffer.alloc(64));
  const constants = Buffer.from('expand 32-byte k', 'latin1');
  const subkeyOut = Buffer.alloc(32);
  for (let word = 0; word < 4; word++) {
    const first = block.readUInt32LE(word * 4) - constants.readUInt32LE(word * 4);
    subkeyOut.writeUInt32LE(first >>> 0, word * 4);
    const last = block.readUInt32LE(48 + word * 4) - Buffer.from(nonce16).readUInt32LE(word * 4);
    subkeyOut.writeUInt32LE(last >>> 0, 16 + word * 4);
  }
  return subkeyOut;
}

/** Section 2.3 of the same draft; throws if the tag does not fit. */
function openXChaCha(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, sealed: Uint8Array) {
  const inner = Buffer.concat([Buffer.alloc(4), nonce.subarray(16)]);
  const opening = createDecipheriv(
    'chacha20-poly1305',
    hchacha20(key, nonce.subarray(0, 16)),
    inner,
    {
      authTagLength: 16,
    },
  );
  opening.setAAD(aad, { plaintextLength: sealed.length - 16 });
  opening.setAuthTag(sealed.subarray(-16));
  return Buffer.concat([opening.update(sealed.subarray(0, -16)), opening.final()]);
}

test('golden bytes: version 1', () => {
  const { id, bytes } = encodeRecipe(fixedRecipe(), ownerKey);
  assert.equal(id, goldenId);
  assert.equal(bytes.toString('hex'), golden.toString('hex'));
  assert.deepEqual(decodeRecipe(golden, ownerKey, id), fixedRecipe());
});

test("noble's XChaCha20-Poly1305 is what node's ChaCha20 makes of the same draft", () => {
  for (const random of seeded(30)) {
    const [key, nonce] = [random.bytes(32), random.bytes(24)];
    const [aad, plain] = [random.bytes(random.below(80)), random.bytes(random.below(200))];
    const sealed = xchacha20poly1305(key, nonce, aad).encrypt(plain);
    assert.deepEqual(openXChaCha(key, nonce, aad, sealed), plain, `seed ${random.seed}`);
  }
});

test('a second reader finds in the golden bytes what the document says', () => {
  // Header.
  assert.equal(golden.toString('latin1', 0, 6), 'imgrcp');
  assert.equal(golden.readUInt16LE(6), 1);
  assert.equal(golden.toString('hex', 8, 24), ownerKey.id);
  const id = sha256(golden.subarray(96));
  assert.equal(Buffer.from(id).toString('hex'), goldenId);
  const bound = Buffer.concat([golden.subarray(0, 24), id]);
  const wrapKey = subkey('imgstore recipe wrap key 1');
  const nonce = golden.subarray(24, 48);
  const contentKey = openXChaCha(wrapKey, nonce, bound, golden.subarray(48, 96));
  const nonceInput = Buffer.concat([id, contentKey]);
  const nonceHmac = hmac(sha256, subkey('imgstore recipe wrap nonce 1'), nonceInput);
  assert.deepEqual(nonce, Buffer.from(nonceHmac.subarray(0, 24)));

  // Public part: 3 distinct chunks, 4 references.
  assert.equal(golden.readUInt32LE(96), 3);
  assert.equal(golden.readUInt32LE(100), 4);
  const sealedAt = 104 + 3 * 32;
  const publicPart = golden.subarray(96, sealedAt);

  // Private part.
  const label = Buffer.from('imgstore recipe private part 1\n', 'latin1');
  const aad = Buffer.concat([label, sha256(publicPart)]);
  const plain = Buffer.from(
    gcm(contentKey, new Uint8Array(12), aad).decrypt(golden.subarray(sealedAt)),
  );
  const digest = sha256(Buffer.concat([publicPart, plain]));
  const derived = hmac(sha256, subkey('imgstore recipe content key 1'), digest);
  assert.deepEqual(contentKey, Buffer.from(derived));
  const { diskSizeBytes, metadataSizeBytes, segments, details } = fixedRecipe();
  assert.equal(plain.readBigUInt64LE(0), BigInt(diskSizeBytes));
  assert.equal(plain.readBigUInt64LE(8), BigInt(metadataSizeBytes));
  assert.equal(plain.readUInt32LE(16), 5);
  const [rowsAt, segmentsAt, zeroRunsAt, detailsAt] = [24, 144, 164, 172] as const;
  const indexes = [0, 1, 2, 3, 4].map(i => plain.readUInt32LE(segmentsAt + 4 * i));
  assert.deepEqual(indexes, [0, 1, 0xffffffff, 0, 2]);
  let zeroRunAt: number = zeroRunsAt;
  indexes.forEach((index, i) => {
    const segment = segments[i]!;
    if (segment.kind === 'zero') {
      assert.equal(index, 0xffffffff);
      assert.equal(plain.readBigUInt64LE(zeroRunAt), BigInt(segment.plainSizeBytes));
      zeroRunAt += 8;
      return;
    }
    const row = plain.subarray(rowsAt + 40 * index, rowsAt + 40 * index + 40);
    assert.equal(golden.toString('hex', 104 + 32 * index, 136 + 32 * index), segment.id);
    assert.deepEqual(row.subarray(0, 32), segment.key);
    assert.equal(row.readUInt32LE(32), segment.plainSizeBytes);
    assert.equal(row.readUInt32LE(36), segment.sealedSizeBytes);
  });
  assert.equal(plain.readUInt32LE(20), plain.length - detailsAt);
  assert.deepEqual(JSON.parse(plain.toString('utf8', detailsAt)), details);
});
