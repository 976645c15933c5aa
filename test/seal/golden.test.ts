/**
 * Version 1 of sealed chunks, made once with @noble's primitives and, for the second, zstd 1.5.4 at
 * level 19. What zstd writes differs between versions, so that one is opened and not made again.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { sha256Hex } from '../../src/base/digest.ts';
import { chunkIdOf, chunkKey, openChunk, sealChunk } from '../../src/seal/seal.ts';

const folder = join(import.meta.dirname, '..', '..', 'fixtures', 'golden');
const golden: {
  salt: string;
  plain: { chunk: string; key: string; id: string };
  zstd: { chunkSha256: string; chunkSizeBytes: number; key: string; id: string };
} = JSON.parse(readFileSync(join(folder, 'seal-v1.json'), 'utf8'));
const hex = (text: string): Buffer => Buffer.from(text, 'hex');

test('golden bytes: a chunk that zstd does not shrink', async () => {
  const stored = readFileSync(join(folder, 'seal-v1-plain.bin'));
  const chunk = hex(golden.plain.chunk);
  const key = chunkKey(chunk, hex(golden.salt));
  assert.equal(key.toString('hex'), golden.plain.key);
  const { id, sealed } = await sealChunk(chunk, key);
  assert.deepEqual(sealed, stored);
  assert.equal(id, golden.plain.id);
  assert.deepEqual(await openChunk(stored, { key, plainSizeBytes: chunk.length }), chunk);
});

test('golden bytes: a zstd chunk opens', async () => {
  const stored = readFileSync(join(folder, 'seal-v1-zstd.bin'));
  const { chunkSha256, chunkSizeBytes, key, id } = golden.zstd;
  assert.equal(chunkIdOf(stored), id);
  const chunk = await openChunk(stored, { key: hex(key), plainSizeBytes: chunkSizeBytes });
  assert.equal(sha256Hex(chunk), chunkSha256);
  assert.equal(chunkKey(chunk, hex(golden.salt)).toString('hex'), key);
});
