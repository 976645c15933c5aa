/**
 * A sealed chunk: nonce ‖ ciphertext ‖ tag, of AES-256-GCM without associated data. What is
 * encrypted is the payload: a codec byte, then the chunk's bytes in that codec. See
 * docs/format/sealed-chunk.md.
 */

import { assert } from '../base/assert.ts';
import { sealedChunkOverheadBytes } from '../base/limits.ts';

export const cipherName = 'aes-256-gcm';
/** Of salts, chunk keys and digests. */
export const keySizeBytes = 32;

export const nonceSizeBytes = 12;
export const tagSizeBytes = 16;
export const ciphertextOffset = nonceSizeBytes;

/** First byte of the payload. */
export const codecOffset = 0;
export const dataOffset = 1;
/** The chunk's bytes as they are. */
export const codecPlain = 0;
/** One zstd frame (RFC 8878), nothing after it, of a window up to chunkSizeMaxBytes. */
export const codecZstd = 1;

/** The least a chunk can be: one byte, stored plain. */
export const sealedSizeMinBytes = nonceSizeBytes + dataOffset + 1 + tagSizeBytes;

assert(
  sealedChunkOverheadBytes === nonceSizeBytes + dataOffset + tagSizeBytes,
  'sealing a chunk that does not compress adds what limits.ts says',
);
