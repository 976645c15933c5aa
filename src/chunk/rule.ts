/**
 * Where content-defined chunks end: the sizes, the masks and the gear table, for runs of bytes
 * (run-chunker.ts) and for packs of small files (file-packer.ts) alike. docs/format/chunk.md
 * states the rule; every store in the world depends on it to share chunks, so it changes only with
 * the pipeline's name.
 */

import { assert } from '../base/assert.ts';
import { sha256 } from '../base/digest.ts';
import {
  blockSizeBytes,
  chunkSizeMaxBytes,
  chunkSizeMinBytes,
  chunkSizeTargetBytes,
} from '../base/limits.ts';

export interface ChunkSizes {
  minBytes: number;
  /** The mean size that the rule aims at; a power of two. */
  targetBytes: number;
  /** No chunk is larger, its padding included. */
  maxBytes: number;
}

export const defaultChunkSizes: Readonly<ChunkSizes> = {
  minBytes: chunkSizeMinBytes,
  targetBytes: chunkSizeTargetBytes,
  maxBytes: chunkSizeMaxBytes,
};

export interface CutRule {
  minBytes: number;
  /** A chunk shorter than this ends with chance 2^-strictBits a byte, from here on 2^-looseBits. */
  switchBytes: number;
  /** A chunk ends here in any case. A block below maxBytes, so that padding always fits. */
  forcedBytes: number;
  maxBytes: number;
  strictBits: number;
  looseBits: number;
}

/**
 * Two rates, a factor of four above and below the target, keep sizes near the target without
 * ending many chunks by force ("normalized chunking", Xia et al., FastCDC, USENIX ATC 2016). The
 * switch stands at 13/16 of the target because with min : target : max as 1 : 4 : 16 the mean on
 * random bytes then is the target (within 1 %); at the target itself it would be 14 % above.
 */
export function cutRule(sizes: ChunkSizes): CutRule {
  const { minBytes, targetBytes, maxBytes } = sizes;
  const bits = Math.log2(targetBytes);
  const switchBytes = (targetBytes / 16) * 13;
  const forcedBytes = maxBytes - blockSizeBytes;
  assert(Number.isInteger(bits) && bits > 4 && bits < 30, 'the chunk target is a power of two');
  assert(minBytes > 0 && minBytes < switchBytes, 'the chunk minimum is below the switch');
  assert(switchBytes < forcedBytes, 'the chunk switch is below the maximum');
  assert(maxBytes % blockSizeBytes === 0, 'the chunk maximum is whole blocks');
  return {
    minBytes,
    switchBytes,
    forcedBytes,
    maxBytes,
    strictBits: bits + 2,
    looseBits: bits - 2,
  };
}

/** The highest bits of the hash: they depend on the most bytes, the last 32. */
export function highMask(bits: number): number {
  return -1 << (32 - bits);
}

/** Entry b: the first four bytes, big-endian, of SHA-256("imgstore gear" ‖ byte b). Never written. */
export const gearTable: Int32Array = Int32Array.from({ length: 256 }, (_, byte) =>
  sha256(Buffer.from([...Buffer.from('imgstore gear'), byte])).readInt32BE(0),
);
