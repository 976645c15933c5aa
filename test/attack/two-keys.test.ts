/**
 * AES-GCM does not commit to a key: whoever knows two keys can make one object, of one id, that opens
 * under both, to different bytes. Here it is made, and two tenants of one worker name it.
 */

import assert from 'node:assert/strict';
import { createCipheriv } from 'node:crypto';
import { test } from 'node:test';
import type { ChunkId } from '../../src/base/digest.ts';
import { verified } from '../../src/cache/verified.ts';
import { ChunkReader, newReadCounters } from '../../src/image/chunk-reader.ts';
import { DecodedCache } from '../../src/image/decoded-cache.ts';
import type { ChunkSegment } from '../../src/recipe/recipe.ts';
import { chunkIdOf, openChunk } from '../../src/seal/seal.ts';
import { MemorySource } from '../support/memory-source.ts';
import { Random } from '../support/random.ts';

type Element = bigint;

/** In GF(2^128) as GCM has it: the first bit of a block is the coefficient of x^0. */
function multiply(a: Element, b: Element): Element {
  let product = 0n;
  let shifted = b;
  for (let bit = 127n; bit >= 0n; bit--) {
    if ((a >> bit) & 1n) product ^= shifted;
    shifted = shifted & 1n ? (shifted >> 1n) ^ (0xe1n << 120n) : shifted >> 1n;
  }
  return product;
}

function power(base: Element, exponent: bigint): Element {
  let result = 1n << 127n;
  for (let square = base, left = exponent; left > 0n; left >>= 1n) {
    if (left & 1n) result = multiply(result, square);
    square = multiply(square, square);
  }
  return result;
}

function elementOf(block: Buffer): Element {
  return BigInt(`0x${block.toString('hex')}`);
}

function blockOf(element: Element): Buffer {
  return Buffer.from(element.toString(16).padStart(32, '0'), 'hex');
}

function encryptBlock(key: Buffer, block: Buffer): Buffer {
  return createCipheriv('aes-256-ecb', key, null).update(block);
}

/** What GCM has for a key and nonce: the hash key, the mask of the tag, the first key stream. */
function setUp(key: Buffer, nonce: Buffer) {
  const counter = (value: number) => Buffer.concat([nonce, Buffer.from([0, 0, 0, value])]);
  return {
    hash: elementOf(encryptBlock(key, Buffer.alloc(16))),
    mask: elementOf(encryptBlock(key, counter(1))),
    stream: encryptBlock(key, counter(2)),
  };
}

/** An object whose tag fits under both keys, and whose codec byte is "plain" under both. */
function objectOfTwoKeys(keys: readonly [Buffer, Buffer], random: Random): Buffer {
  for (;;) {
    const nonce = random.bytes(12);
    const [a, b] = [setUp(keys[0], nonce), setUp(keys[1], nonce)];
    if (a.stream[0] !== b.stream[0]) continue;
    const blocks = [Buffer.concat([a.stream.subarray(0, 1), random.bytes(15)]), random.bytes(16)];
    const count = blocks.length + 1;
    const lengths = BigInt(count * 128);
    const sumOf = (exponent: number) =>
      power(a.hash, BigInt(exponent)) ^ power(b.hash, BigInt(exponent));
    // tag = mask ⊕ Σ block(i) · hash^(count + 2 - i) ⊕ lengths · hash, for i from 1: equal for both.
    let rest = a.mask ^ b.mask ^ multiply(lengths, sumOf(1));
    blocks.forEach((block, i) => {
      rest ^= multiply(elementOf(block), sumOf(count + 1 - i));
    });
    const last = multiply(rest, power(sumOf(2), 2n ** 128n - 2n));
    const all = [...blocks, blockOf(last)];
    let tag = a.mask ^ multiply(lengths, a.hash);
    all.forEach((block, i) => {
      tag ^= multiply(elementOf(block), power(a.hash, BigInt(count + 1 - i)));
    });
    return Buffer.concat([nonce, ...all, blockOf(tag)]);
  }
}

test('one object that opens under two keys: each reader gets what its own recipe says', async () => {
  const random = new Random(1);
  const keys = [random.bytes(32), random.bytes(32)] as const;
  const sealed = objectOfTwoKeys(keys, random);
  const id = chunkIdOf(sealed) as ChunkId;
  const sizes = { plainSizeBytes: 47, sealedSizeBytes: sealed.length };
  const segments = keys.map((key): ChunkSegment => ({ kind: 'chunk', id, key, ...sizes }));
  const plains = await Promise.all(segments.map(segment => openChunk(sealed, segment)));
  assert.notDeepEqual(plains[0], plains[1], 'the object is what it should be');

  const store = new MemorySource('store', { verified: false, chunks: [{ id, sealed }] });
  const counters = newReadCounters();
  for (const memoryBytes of [0, 1 << 20]) {
    const decoded = new DecodedCache(memoryBytes);
    const reader = new ChunkReader(verified(store), decoded, { chunksInFlightMax: 4 });
    const read = async (which: number) =>
      reader.peek(segments[which]!, counters) ?? (await reader.read(segments[which]!, counters));
    for (const order of [
      [0, 1],
      [1, 0],
      [0, 0, 1, 1, 0],
    ]) {
      for (const which of order) assert.deepEqual(await read(which), plains[which]);
      const together = await Promise.all(order.map(read));
      assert.deepEqual(
        together,
        order.map(which => plains[which]),
      );
    }
  }
});
