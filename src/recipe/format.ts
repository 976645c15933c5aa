/**
 * Offsets and sizes of a recipe object, version 1, as docs/format/recipe.md describes it:
 *
 *   header (key wrap) ‖ public part ‖ sealed private part
 *
 * Numbers are little-endian. The recipe id is the SHA-256 of what follows the header.
 */

import { assert } from '../base/assert.ts';

export const recipeVersion = 1;
export const recipeMagic = Buffer.from('imgrcp', 'latin1');

/** The header: rewritten when the owner's key changes, and so not part of the id. */
export const headerMagicAt = 0;
/** u16. */
export const headerVersionAt = 6;
export const headerKeyIdAt = 8;
export const headerNonceAt = 24;
export const headerWrappedKeyAt = 48;
export const headerSizeBytes = 96;

export const wrapNonceSizeBytes = 24;
export const contentKeySizeBytes = 32;
export const tagSizeBytes = 16;
export const idSizeBytes = 32;

/** The public part: what garbage collection needs. Offsets from the end of the header. */
/** u32: distinct chunks. */
export const publicChunkCountAt = 0;
/** u32: chunk segments, which is more if a chunk occurs several times. */
export const publicReferenceCountAt = 4;
/** The ids, 32 bytes each, in the order of first use. */
export const publicIdsAt = 8;

/** The private part, before it is sealed: these fields, then the four tables below. */
/** u64. */
export const privateDiskSizeAt = 0;
/** u64. */
export const privateMetadataSizeAt = 8;
/** u32. */
export const privateSegmentCountAt = 16;
/** u32: length of the details, which end the private part. */
export const privateDetailsSizeAt = 20;
export const privateTablesAt = 24;

/** First table, one row for each public id: the chunk's key and its sizes. */
export const chunkRowKeyAt = 0;
/** u32. */
export const chunkRowPlainSizeAt = 32;
/** u32. */
export const chunkRowSealedSizeAt = 36;
export const chunkRowSizeBytes = 40;

/** Second table, u32 for each segment: which public id, or that it is a run of zeros. */
export const segmentSizeBytes = 4;
export const zeroSegment = 0xffffffff;

/** Third table, u64 for each run of zeros: its length. */
export const zeroRunSizeBytes = 8;

/** No sealed recipe is shorter: no chunk, no segment, no details. */
export const recipeSizeMinBytes = headerSizeBytes + publicIdsAt + privateTablesAt + tagSizeBytes;

assert(headerMagicAt + recipeMagic.length === headerVersionAt, 'the version follows the magic');
assert(
  headerWrappedKeyAt + contentKeySizeBytes + tagSizeBytes === headerSizeBytes,
  'the wrapped key ends the header',
);
assert(chunkRowPlainSizeAt === contentKeySizeBytes, 'a chunk key has 32 bytes');

/** Where the tables of a private part begin. */
export class PrivateTables {
  readonly segmentCount: number;
  readonly chunksAt = privateTablesAt;
  readonly segmentsAt: number;
  readonly zeroRunsAt: number;
  /** Where the details begin. */
  readonly endAt: number;

  constructor(chunkCount: number, segmentCount: number, zeroRunCount: number) {
    this.segmentCount = segmentCount;
    this.segmentsAt = this.chunksAt + chunkCount * chunkRowSizeBytes;
    this.zeroRunsAt = this.segmentsAt + segmentCount * segmentSizeBytes;
    this.endAt = this.zeroRunsAt + zeroRunCount * zeroRunSizeBytes;
  }
}

const twoTo32 = 2 ** 32;

export function writeU64(buffer: Buffer, value: number, at: number): void {
  assert(Number.isSafeInteger(value) && value >= 0, 'a size is a whole number');
  buffer.writeUInt32LE(value % twoTo32, at);
  buffer.writeUInt32LE(Math.floor(value / twoTo32), at + 4);
}

/** Exact below 2^53. Beyond, which no limit allows, it is rounded and stays beyond. */
export function readU64(buffer: Buffer, at: number): number {
  return buffer.readUInt32LE(at) + buffer.readUInt32LE(at + 4) * twoTo32;
}
