/** Bytes that stand for sealed chunks: any bytes do, since a source checks nothing but their id. */

import { type ChunkId, parseChunkId, sha256Hex } from '../../src/base/digest.ts';
import type { Random } from './random.ts';

export interface SealedChunk {
  id: ChunkId;
  sealed: Buffer;
}

export function sealedChunk(sealed: Buffer): SealedChunk {
  return { id: parseChunkId(sha256Hex(sealed)), sealed };
}

export function sealedChunks(random: Random, count: number, sizeBytes = 5000): SealedChunk[] {
  // Repeated, because random bytes are made far more slowly than they are read and written.
  return Array.from({ length: count }, () =>
    sealedChunk(Buffer.alloc(sizeBytes, random.bytes(61))),
  );
}
