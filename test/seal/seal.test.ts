import assert from 'node:assert/strict';
import { test } from 'node:test';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { sha256 as nobleSha256 } from '@noble/hashes/sha2.js';
import {
  chunkSizeMaxBytes,
  sealedChunkOverheadBytes,
  sealedChunkSizeMaxBytes,
} from '../../src/base/limits.ts';
import { chunkIdOf, chunkKey, openChunk, sealChunk } from '../../src/seal/seal.ts';
import { type Random, seeded } from '../support/random.ts';
import { key, referenceKey, referencePayload, referenceSeal, salt, textOf } from './support.ts';

/** Of the sizes around which something changes, and of bytes that shrink much, little, not at all. */
function randomPlain(random: Random): Buffer {
  const size = random.pick([1, 2, 63, 64, 65, 1000, 4096, 65_536, 65_537, 200_000]);
  const bytes = random.pick([textOf(size), random.bytes(size), Buffer.alloc(size, 7)]);
  if (random.chance(0.3)) bytes.set(random.bytes(size >> 1));
  return bytes;
}

test('what is sealed opens to the same bytes, here and with @noble', async () => {
  const codecs = new Set<number>();
  for (const random of seeded(60)) {
    const plain = randomPlain(random);
    const seed = `seed ${random.seed}, ${plain.length} bytes`;
    const ownKey = chunkKey(plain, salt);
    const { id, sealed } = await sealChunk(plain, ownKey);
    assert.deepEqual(ownKey, referenceKey(plain, salt), seed);
    assert.equal(id, Buffer.from(nobleSha256(sealed)).toString('hex'), seed);
    assert.ok(sealed.length <= plain.length + sealedChunkOverheadBytes, seed);

    const payload = referencePayload(sealed, ownKey);
    codecs.add(payload[0]!);
    const data = payload.subarray(1);
    assert.deepEqual(payload[0] === 0 ? data : zstdDecompressSync(data), plain, seed);
    assert.deepEqual(sealed, referenceSeal(payload[0]!, data, ownKey), seed);

    const opened = await openChunk(sealed, { key: ownKey, plainSizeBytes: plain.length });
    assert.deepEqual(opened, plain, seed);
  }
  assert.deepEqual([...codecs].sort(), [0, 1]);
});

test('what @noble seals opens here, with any zstd level and nonce', async () => {
  for (const random of seeded(40)) {
    const plain = randomPlain(random);
    const frame = zstdCompressSync(plain, {
      params: { 100: random.between(1, 12) },
      chunkSize: 1 << 20,
    });
    for (const sealed of [referenceSeal(0, plain, key), referenceSeal(1, frame, key)]) {
      const opened = await openChunk(sealed, { key, plainSizeBytes: plain.length });
      assert.deepEqual(opened, plain, `seed ${random.seed}`);
    }
  }
});

test('the largest chunk fits, whether it shrinks or not', async () => {
  const [random] = seeded(1);
  for (const plain of [random!.bytes(chunkSizeMaxBytes), textOf(chunkSizeMaxBytes)]) {
    const { sealed } = await sealChunk(plain, key);
    assert.ok(sealed.length <= sealedChunkSizeMaxBytes);
    const opened = await openChunk(sealed, { key, plainSizeBytes: plain.length });
    assert.ok(opened.equals(plain));
  }
});

test('convergence: equal bytes and salt give one id, another salt or byte another', async () => {
  for (const plain of [textOf(5000), textOf(300_000)]) {
    const ids = new Set<string>();
    for (let i = 0; i < 3; i++) {
      const copy = Buffer.from(plain);
      ids.add((await sealChunk(copy, chunkKey(copy, salt))).id);
    }
    assert.equal(ids.size, 1);
    const otherSalt = Buffer.from(salt);
    otherSalt[31]! ^= 1;
    ids.add((await sealChunk(plain, chunkKey(plain, otherSalt))).id);
    const other = Buffer.from(plain);
    other[plain.length - 1]! ^= 1;
    ids.add((await sealChunk(other, chunkKey(other, salt))).id);
    assert.equal(ids.size, 3);
  }
});

test('attack: one key over two payloads must not share a nonce', async () => {
  // What two versions of zstd make of one chunk: one key, two payloads.
  const plain = textOf(100_000);
  const nonces = new Set<string>();
  for (const level of [1, 3, 9]) {
    const frame = zstdCompressSync(plain, { params: { 100: level } });
    nonces.add(referenceSeal(1, frame, key).toString('hex', 0, 12));
  }
  nonces.add(referenceSeal(0, plain, key).toString('hex', 0, 12));
  assert.equal(nonces.size, 4);
  // And what sealChunk does for several payloads under one key.
  for (let size = 1; size <= 100; size++) {
    const { sealed } = await sealChunk(Buffer.alloc(size, 1), key);
    nonces.add(sealed.toString('hex', 0, 12));
  }
  assert.equal(nonces.size, 104);
  const same = await Promise.all([1, 2].map(() => sealChunk(Buffer.alloc(50, 1), key)));
  assert.equal(same[0]!.id, same[1]!.id);
});

test('bytes that save less than 1/32 are stored plain', async () => {
  const [random] = seeded(1, 77);
  const size = 64_000;
  const codecAt = async (zeros: number): Promise<number> => {
    const plain = Buffer.concat([random!.bytes(size - zeros), Buffer.alloc(zeros)]);
    return referencePayload((await sealChunk(plain, key)).sealed, key)[0]!;
  };
  assert.equal(await codecAt(0), 0);
  assert.equal(await codecAt(1800), 0);
  assert.equal(await codecAt(2200), 1);
});

test('many at once', async () => {
  const plains = Array.from(seeded(200)).map(randomPlain);
  const sealed = await Promise.all(plains.map(plain => sealChunk(plain, chunkKey(plain, salt))));
  const opened = await Promise.all(
    sealed.map((each, i) => {
      const plain = plains[i]!;
      return openChunk(each.sealed, { key: chunkKey(plain, salt), plainSizeBytes: plain.length });
    }),
  );
  assert.deepEqual(opened, plains);
});

test('an opened chunk is the caller’s own', async () => {
  for (const plain of [textOf(5000), textOf(200_000), Buffer.from([9])]) {
    const { sealed } = await sealChunk(plain, key);
    const before = chunkIdOf(sealed);
    const first = await openChunk(sealed, { key, plainSizeBytes: plain.length });
    first.fill(0xee);
    assert.equal(chunkIdOf(sealed), before, 'the sealed bytes are not written to');
    assert.deepEqual(await openChunk(sealed, { key, plainSizeBytes: plain.length }), plain);
  }
});

test('sizes and keys beyond their limits are bugs', async () => {
  const bug = { name: 'AssertionError' };
  assert.throws(() => chunkKey(Buffer.alloc(1), salt.subarray(1)), bug);
  assert.throws(() => sealChunk(Buffer.alloc(0), key), bug);
  assert.throws(() => sealChunk(Buffer.alloc(chunkSizeMaxBytes + 1), key), bug);
  assert.throws(() => sealChunk(Buffer.alloc(1), key.subarray(16)), bug);
  for (const plainSizeBytes of [0, -1, Number.NaN, chunkSizeMaxBytes + 1]) {
    await assert.rejects(openChunk(Buffer.alloc(100), { key, plainSizeBytes }), bug);
  }
});
