/**
 * Chunk ↔ sealed chunk, by convergent encryption: under one salt, equal chunks have equal keys, and
 * so are stored once. See docs/format/sealed-chunk.md for the format and for what holds it safe.
 *
 * Invariants: a nonce is a function of the key and of every byte that is encrypted. zstd's output
 * may differ between versions, so one key does meet several payloads; under a constant nonce, two
 * of them would show their difference and let anybody forge tags for that key.
 *
 * Opening trusts nothing: every tenant that has the same chunk has its key, so even what decrypts
 * may be made to harm. A frame's own word on sizes counts for nothing, the recipe's does.
 */

import { createCipheriv, createDecipheriv, createHmac } from 'node:crypto';
import { assert } from '../base/assert.ts';
import { type ChunkId, sha256, sha256Hex } from '../base/digest.ts';
import { ImgstoreError } from '../base/errors.ts';
import { release } from '../base/external-memory.ts';
import { chunkSizeMaxBytes, sealedChunkSizeMaxBytes } from '../base/limits.ts';
import {
  cipherName,
  ciphertextOffset,
  codecOffset,
  codecPlain,
  codecZstd,
  dataOffset,
  keySizeBytes,
  nonceSizeBytes,
  sealedSizeMinBytes,
  tagSizeBytes,
} from './format.ts';
import { compress, decompress, isBadFrame } from './zstd.ts';

/**
 * The key of a chunk in the dedup domain of `salt` (32 secret bytes): HMAC-SHA-256 under the salt of
 * the SHA-256 of its bytes. It identifies the bytes as well as their digest would, but only to those
 * who have the salt or a recipe.
 */
export function chunkKey(plain: Uint8Array, salt: Uint8Array): Buffer {
  assert(salt.length === keySizeBytes, 'a dedup salt has 32 bytes');
  return createHmac('sha256', salt).update(sha256(plain)).digest();
}

export interface SealedChunk {
  id: ChunkId;
  /** The caller's own. */
  sealed: Buffer;
}

/**
 * Compresses and encrypts `plain` (1 to chunkSizeMaxBytes) on the calling thread: up to 8 ms. Whoever
 * must not wait for that gives it to a SealerPool.
 */
export function sealChunk(plain: Buffer, key: Uint8Array): SealedChunk {
  checkArguments(key, plain.length);
  const frame = compress(plain);
  const sealed =
    frame === undefined ? encrypt(codecPlain, plain, key) : encrypt(codecZstd, frame, key);
  if (frame !== undefined) release(frame);
  return { id: chunkIdOf(sealed), sealed };
}

/**
 * The chunk, of exactly `plainSizeBytes` (1 to chunkSizeMaxBytes), in a buffer of the caller's own.
 * Does not compare with the id: whoever takes chunks from where others may write does that first.
 *
 * ImgstoreError CORRUPT: wrong tag (damaged, or another key), wrong size, or a frame that is not
 * one; UNSUPPORTED: a codec of a later version. Never takes memory beyond the size asked for.
 */
export async function openChunk(
  sealed: Buffer,
  { key, plainSizeBytes }: { key: Uint8Array; plainSizeBytes: number },
): Promise<Buffer> {
  checkArguments(key, plainSizeBytes);
  const payload = decrypt(sealed, key);
  const codec = payload[codecOffset]!;
  const data = payload.subarray(dataOffset);
  if (codec === codecPlain) return ofSize(data, plainSizeBytes, sealed);
  if (codec === codecZstd) {
    const plain = await unpack(data, plainSizeBytes, sealed);
    release(payload);
    return ofSize(plain, plainSizeBytes, sealed);
  }
  throw new ImgstoreError(
    'UNSUPPORTED',
    `Cannot open chunk ${chunkIdOf(sealed)}: codec ${codec} is not known`,
    { hint: 'It was made by a later version; update imgstore.' },
  );
}

/** The SHA-256 of all that is stored: whoever holds a sealed chunk can check it, without a key. */
export function chunkIdOf(sealed: Uint8Array): ChunkId {
  return sha256Hex(sealed) as ChunkId;
}

function encrypt(codec: number, data: Buffer, key: Uint8Array): Buffer {
  const codecByte = Buffer.of(codec);
  const mac = createHmac('sha256', key).update(codecByte).update(data).digest();
  const nonce = mac.subarray(0, nonceSizeBytes);
  const cipher = createCipheriv(cipherName, key, nonce, { authTagLength: tagSizeBytes });

  const tagOffset = ciphertextOffset + dataOffset + data.length;
  const sealed = Buffer.allocUnsafeSlow(tagOffset + tagSizeBytes);
  sealed.set(nonce, 0);
  sealed.set(cipher.update(codecByte), ciphertextOffset);
  const encrypted = cipher.update(data);
  sealed.set(encrypted, ciphertextOffset + dataOffset);
  release(encrypted);
  cipher.final();
  sealed.set(cipher.getAuthTag(), tagOffset);
  return sealed;
}

/** The payload: at least a codec byte and one more. */
function decrypt(sealed: Buffer, key: Uint8Array): Buffer {
  if (sealed.length < sealedSizeMinBytes || sealed.length > sealedChunkSizeMaxBytes)
    throw corrupt(sealed, `no sealed chunk has ${sealed.length} bytes`);
  const tagOffset = sealed.length - tagSizeBytes;
  const nonce = sealed.subarray(0, nonceSizeBytes);
  const decipher = createDecipheriv(cipherName, key, nonce, { authTagLength: tagSizeBytes });
  decipher.setAuthTag(sealed.subarray(tagOffset));
  const payload = decipher.update(sealed.subarray(ciphertextOffset, tagOffset));
  try {
    decipher.final();
  } catch (error) {
    throw corrupt(sealed, 'its tag is wrong: it is damaged, or the key is not its key', error);
  }
  return payload;
}

async function unpack(frame: Buffer, sizeMaxBytes: number, sealed: Buffer): Promise<Buffer> {
  try {
    return await decompress(frame, sizeMaxBytes);
  } catch (error) {
    throw isBadFrame(error) ? corrupt(sealed, 'its zstd frame is wrong', error) : error;
  }
}

function ofSize(plain: Buffer, plainSizeBytes: number, sealed: Buffer): Buffer {
  if (plain.length !== plainSizeBytes)
    throw corrupt(sealed, `it holds ${plain.length} bytes, not ${plainSizeBytes}`);
  return plain;
}

function corrupt(sealed: Buffer, state: string, cause?: unknown): ImgstoreError {
  return new ImgstoreError('CORRUPT', `Cannot open chunk ${chunkIdOf(sealed)}: ${state}`, {
    hint: 'Drop this copy and fetch the chunk again.',
    cause,
  });
}

function checkArguments(key: Uint8Array, plainSizeBytes: number): void {
  assert(key.length === keySizeBytes, 'a chunk key has 32 bytes');
  assert(plainSizeBytes > 0 && plainSizeBytes <= chunkSizeMaxBytes, 'a chunk is within its limits');
}
