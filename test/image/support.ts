/** Chunks that open, and disks made of them. */

import type { ChunkSegment, Recipe, Segment } from '../../src/recipe/recipe.ts';
import { chunkKey, sealChunk } from '../../src/seal/seal.ts';
import type { MemorySource } from '../support/memory-source.ts';
import { salt } from '../support/pushing.ts';

/** Seals the bytes and puts them there; a segment of a recipe. */
export async function shelve(source: MemorySource, plain: Buffer): Promise<ChunkSegment> {
  const key = chunkKey(plain, salt.bytes);
  const { id, sealed } = await sealChunk(plain, key);
  source.chunks.set(id, sealed);
  const plainSizeBytes = plain.length;
  return { kind: 'chunk', id, key, plainSizeBytes, sealedSizeBytes: sealed.length };
}

/** A raw disk. */
export function recipeOf(segments: readonly Segment[]): Recipe {
  return {
    diskSizeBytes: segments.reduce((sum, { plainSizeBytes }) => sum + plainSizeBytes, 0),
    metadataSizeBytes: 0,
    segments,
    details: { kind: 'disk', pipeline: 'test', saltId: salt.id },
  };
}
