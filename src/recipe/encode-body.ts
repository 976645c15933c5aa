/**
 * What the disk is made of, as bytes in the clear: the public part with the chunk ids, and the
 * private part before it is sealed. Layout: format.ts. Equal recipes give equal bytes.
 */

import { assert } from '../base/assert.ts';
import type { ChunkId } from '../base/digest.ts';
import { diskSizeMaxBytes, recipeDetailsSizeMaxBytes } from '../base/limits.ts';
import { checkLimit, isSoundChunk } from './body-limits.ts';
import { encodeDetails } from './details.ts';
import {
  chunkRowKeyAt,
  chunkRowPlainSizeAt,
  chunkRowSealedSizeAt,
  chunkRowSizeBytes,
  idSizeBytes,
  PrivateTables,
  privateDetailsSizeAt,
  privateDiskSizeAt,
  privateMetadataSizeAt,
  privateSegmentCountAt,
  publicChunkCountAt,
  publicIdsAt,
  publicReferenceCountAt,
  segmentSizeBytes,
  writeU64,
  zeroRunSizeBytes,
  zeroSegment,
} from './format.ts';
import type { ChunkSegment, Recipe, Segment } from './recipe.ts';

/** Errors: LIMIT if the disk or the details are too large. */
export function encodeBody(recipe: Recipe): { publicPart: Buffer; privatePart: Buffer } {
  const { diskSizeBytes, metadataSizeBytes, segments } = recipe;
  const details = encodeDetails(recipe.details);
  checkLimit('disk', diskSizeBytes, diskSizeMaxBytes);
  checkLimit('details', details.length, recipeDetailsSizeMaxBytes);
  const { chunks, indexes, zeroRuns } = collect(segments);
  assert(coveredBytes(segments) === diskSizeBytes, 'the segments cover the disk');
  assert(metadataSizeBytes <= diskSizeBytes, 'the metadata is part of the disk');

  const publicPart = Buffer.alloc(publicIdsAt + chunks.length * idSizeBytes);
  publicPart.writeUInt32LE(chunks.length, publicChunkCountAt);
  publicPart.writeUInt32LE(indexes.length - zeroRuns.length, publicReferenceCountAt);
  const tables = new PrivateTables(chunks.length, indexes.length, zeroRuns.length);
  const privatePart = Buffer.alloc(tables.endAt + details.length);
  writeU64(privatePart, diskSizeBytes, privateDiskSizeAt);
  writeU64(privatePart, metadataSizeBytes, privateMetadataSizeAt);
  privatePart.writeUInt32LE(indexes.length, privateSegmentCountAt);
  privatePart.writeUInt32LE(details.length, privateDetailsSizeAt);
  chunks.forEach((chunk, i) => {
    publicPart.write(chunk.id, publicIdsAt + i * idSizeBytes, 'hex');
    const at = tables.chunksAt + i * chunkRowSizeBytes;
    chunk.key.copy(privatePart, at + chunkRowKeyAt);
    privatePart.writeUInt32LE(chunk.plainSizeBytes, at + chunkRowPlainSizeAt);
    privatePart.writeUInt32LE(chunk.sealedSizeBytes, at + chunkRowSealedSizeAt);
  });
  indexes.forEach((index, i) => {
    privatePart.writeUInt32LE(index, tables.segmentsAt + i * segmentSizeBytes);
  });
  zeroRuns.forEach((sizeBytes, i) => {
    writeU64(privatePart, sizeBytes, tables.zeroRunsAt + i * zeroRunSizeBytes);
  });
  details.copy(privatePart, tables.endAt);
  return { publicPart, privatePart };
}

/** Distinct chunks in the order of first use, what each segment is, and the runs of zeros. */
function collect(segments: readonly Segment[]): {
  chunks: ChunkSegment[];
  indexes: number[];
  zeroRuns: number[];
} {
  const known = new Map<ChunkId, number>();
  const chunks: ChunkSegment[] = [];
  const indexes: number[] = [];
  const zeroRuns: number[] = [];
  for (const segment of segments) {
    if (segment.kind === 'zero') {
      assert(segment.plainSizeBytes > 0, 'a run of zeros is not empty');
      indexes.push(zeroSegment);
      zeroRuns.push(segment.plainSizeBytes);
      continue;
    }
    let index = known.get(segment.id);
    if (index === undefined) {
      assert(isSoundChunk(segment), 'a chunk segment is within the limits');
      index = chunks.push(segment) - 1;
      known.set(segment.id, index);
    } else {
      assert(isSameChunk(segment, chunks[index]!), 'one id is one chunk');
    }
    indexes.push(index);
  }
  return { chunks, indexes, zeroRuns };
}

function isSameChunk(a: ChunkSegment, b: ChunkSegment): boolean {
  return (
    a === b ||
    (a.plainSizeBytes === b.plainSizeBytes &&
      a.sealedSizeBytes === b.sealedSizeBytes &&
      a.key.equals(b.key))
  );
}

function coveredBytes(segments: readonly Segment[]): number {
  return segments.reduce((sum, segment) => sum + segment.plainSizeBytes, 0);
}
