/**
 * What one disk is made of, as a value. sealed-recipe.ts makes it an object of a store, laid out as
 * format.ts and docs/format/recipe.md say.
 *
 * Invariants: the segments cover the disk from 0 to diskSizeBytes without gap or overlap; segments
 * of one chunk id have one key and one pair of sizes.
 */

import type { ChunkId } from '../base/digest.ts';

export interface ChunkSegment {
  kind: 'chunk';
  id: ChunkId;
  /** 32 bytes; whoever has it and the sealed chunk can read it. */
  key: Buffer;
  /** Bytes of the disk: 1 to chunkSizeMaxBytes. */
  plainSizeBytes: number;
  sealedSizeBytes: number;
}

/** A run of zeros of the disk: nothing is stored for it. */
export interface ZeroSegment {
  kind: 'zero';
  plainSizeBytes: number;
}

export type Segment = ChunkSegment | ZeroSegment;

export interface Platform {
  os: string;
  architecture: string;
  variant?: string;
}

/** Where an image came from and what a runtime needs of it. */
export interface RecipeDetails {
  /** `oci`: an EROFS disk flattened from an image; `disk`: raw bytes as they were. */
  kind: 'oci' | 'disk';
  /** Of the manifest that was pushed; absent for a raw disk. */
  manifestDigest?: string;
  platform?: Platform;
  /** The OCI image config, the exact text of the blob. */
  configText?: string;
  /** Inodes of the tree. */
  inodeCount?: number;
  /** Sum of the sizes of the regular files. */
  contentBytes?: number;
  /** Names the chunking rule and writer, so that a push can tell whether it would do the same. */
  pipeline: string;
  /** Id of the dedup salt under which chunk keys were made; see docs/format/sealed-chunk.md. */
  saltId: string;
  /** Absent for the default dedup domain. */
  saltDomain?: string;
  /** The epoch of the domain in which the push began; absent if the domain has none. */
  saltEpoch?: number;
}

export interface Recipe {
  diskSizeBytes: number;
  /** Leading bytes of the disk that are EROFS metadata; 0 for a raw disk. */
  metadataSizeBytes: number;
  segments: readonly Segment[];
  details: RecipeDetails;
}

/** The distinct chunks of a disk and their sealed sizes. */
export function sealedSizes(recipe: Recipe): Map<ChunkId, number> {
  const sizes = new Map<ChunkId, number>();
  for (const segment of recipe.segments) {
    if (segment.kind === 'chunk') sizes.set(segment.id, segment.sealedSizeBytes);
  }
  return sizes;
}

/** How many distinct chunks a disk has, and the sealed bytes of them all. */
export function storedSize(recipe: Recipe): { chunks: number; storedBytes: number } {
  const sizes = sealedSizes(recipe);
  let storedBytes = 0;
  for (const sizeBytes of sizes.values()) storedBytes += sizeBytes;
  return { chunks: sizes.size, storedBytes };
}
