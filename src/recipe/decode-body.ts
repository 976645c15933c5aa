/**
 * Bytes in the clear to what the disk is made of. Layout: format.ts.
 *
 * Decoding allocates in proportion to the bytes that are there, never to a count that they state:
 * every count is held against the length first. A chunk that occurs several times is one
 * ChunkSegment, in the list as often as it occurs.
 */

import type { ChunkId } from '../base/digest.ts';
import { ImgstoreError } from '../base/errors.ts';
import { diskSizeMaxBytes, recipeDetailsSizeMaxBytes } from '../base/limits.ts';
import { checkLimit, isSoundChunk } from './body-limits.ts';
import { decodeDetails } from './details.ts';
import {
  chunkRowPlainSizeAt,
  chunkRowSealedSizeAt,
  chunkRowSizeBytes,
  contentKeySizeBytes,
  idSizeBytes,
  PrivateTables,
  privateDetailsSizeAt,
  privateDiskSizeAt,
  privateMetadataSizeAt,
  privateSegmentCountAt,
  privateTablesAt,
  publicChunkCountAt,
  publicIdsAt,
  publicReferenceCountAt,
  readU64,
  segmentSizeBytes,
  tagSizeBytes,
  zeroRunSizeBytes,
  zeroSegment,
} from './format.ts';
import type { ChunkSegment, Recipe, Segment } from './recipe.ts';

export interface PublicPart {
  /** Distinct chunks, in the order of first use. */
  ids: ChunkId[];
  /** Chunk segments. */
  references: number;
  sizeBytes: number;
}

/** `body` is the object without its header. Errors: CORRUPT. */
export function decodePublicPart(body: Buffer): PublicPart {
  const count = body.readUInt32LE(publicChunkCountAt);
  const references = body.readUInt32LE(publicReferenceCountAt);
  const sizeBytes = publicIdsAt + count * idSizeBytes;
  if (sizeBytes + privateTablesAt + tagSizeBytes > body.length || references < count) {
    throw corrupt('its chunk count does not fit its length');
  }
  const ids: ChunkId[] = new Array(count);
  for (let i = 0; i < count; i++) {
    const at = publicIdsAt + i * idSizeBytes;
    ids[i] = body.toString('hex', at, at + idSizeBytes) as ChunkId;
  }
  return { ids, references, sizeBytes };
}

/** The keys of the segments are views of `plain`. Errors: CORRUPT, LIMIT. */
export function decodePrivatePart(plain: Buffer, { ids, references }: PublicPart): Recipe {
  const diskSizeBytes = readU64(plain, privateDiskSizeAt);
  const metadataSizeBytes = readU64(plain, privateMetadataSizeAt);
  const segmentCount = plain.readUInt32LE(privateSegmentCountAt);
  const detailsSizeBytes = plain.readUInt32LE(privateDetailsSizeAt);
  checkLimit('disk', diskSizeBytes, diskSizeMaxBytes);
  checkLimit('details', detailsSizeBytes, recipeDetailsSizeMaxBytes);
  if (metadataSizeBytes > diskSizeBytes) throw corrupt('its metadata is larger than its disk');
  const tables = new PrivateTables(ids.length, segmentCount, segmentCount - references);
  if (segmentCount < references || tables.endAt + detailsSizeBytes !== plain.length) {
    throw corrupt('its segment count does not fit its length');
  }
  const chunks = readChunks(plain, tables, ids);
  const segments = readSegments(plain, tables, chunks);
  // No overflow to fear: the sum only grows, so one beyond the disk never comes back to it.
  const coveredBytes = segments.reduce((sum, segment) => sum + segment.plainSizeBytes, 0);
  if (coveredBytes !== diskSizeBytes) throw corrupt('its segments do not add up to its disk');
  const details = decodeDetails(plain.subarray(tables.endAt));
  return { diskSizeBytes, metadataSizeBytes, segments, details };
}

function readChunks(plain: Buffer, tables: PrivateTables, ids: readonly ChunkId[]): ChunkSegment[] {
  return ids.map((id, i) => {
    const at = tables.chunksAt + i * chunkRowSizeBytes;
    const chunk: ChunkSegment = {
      kind: 'chunk',
      id,
      key: plain.subarray(at, at + contentKeySizeBytes),
      plainSizeBytes: plain.readUInt32LE(at + chunkRowPlainSizeAt),
      sealedSizeBytes: plain.readUInt32LE(at + chunkRowSealedSizeAt),
    };
    if (!isSoundChunk(chunk)) throw corrupt('a chunk is larger than chunks are');
    return chunk;
  });
}

function readSegments(
  plain: Buffer,
  tables: PrivateTables,
  chunks: readonly ChunkSegment[],
): Segment[] {
  const segments: Segment[] = new Array(tables.segmentCount);
  let used = 0;
  let zeroRunAt = tables.zeroRunsAt;
  for (let i = 0; i < tables.segmentCount; i++) {
    const index = plain.readUInt32LE(tables.segmentsAt + i * segmentSizeBytes);
    if (index === zeroSegment) {
      if (zeroRunAt === tables.endAt) throw corrupt('it has more runs of zeros than it states');
      const plainSizeBytes = readU64(plain, zeroRunAt);
      if (plainSizeBytes === 0) throw corrupt('a run of zeros is empty');
      segments[i] = { kind: 'zero', plainSizeBytes };
      zeroRunAt += zeroRunSizeBytes;
      continue;
    }
    // In the order of first use a new chunk is always the next one.
    if (index > used || index >= chunks.length) throw corrupt('its chunks are out of order');
    if (index === used) used++;
    segments[i] = chunks[index]!;
  }
  if (used !== chunks.length || zeroRunAt !== tables.endAt) {
    throw corrupt('it states more chunks or runs of zeros than it has');
  }
  return segments;
}

function corrupt(state: string): ImgstoreError {
  return new ImgstoreError('CORRUPT', `Cannot read a recipe: ${state}`);
}
