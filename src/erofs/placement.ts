/**
 * Where the bytes of a regular file are, as the pipeline decides it, and the EROFS layout that says
 * so. File data lies in the data region, which follows the metadata on the disk.
 */

import { assert } from '../base/assert.ts';
import { blockSizeBytes, GiB, inlineFileSizeMaxBytes, KiB } from '../base/limits.ts';
import { alignUp, blockSizeBits, chunkMapEntrySizeBytes, nullBlock } from './format.ts';

export type Placement =
  /** The whole file, up to inlineFileSizeMaxBytes: it goes into the metadata. */
  | { kind: 'inline'; bytes: Uint8Array }
  /** In file order. What no extent covers is a hole and reads as zeros. */
  | { kind: 'extents'; extents: readonly Extent[] };

/**
 * Starts at a multiple of the file's holeGranularityBytes and ends at one, or at the file's end.
 * `dataOffsetBytes` counts from the start of the data region and is a multiple of blockSizeBytes;
 * several extents, of one file or many, may name the same data.
 */
export interface Extent {
  fileOffsetBytes: number;
  lengthBytes: number;
  dataOffsetBytes: number;
}

/** A file with holes has a map of 4 bytes for each unit of the granularity: at most this long. */
export const chunkMapMaxBytes = 64 * KiB;
const granularityMinBytes = 64 * KiB;
/** No larger unit than this for sparse files that would allow one; kernels were tried with it. */
const chunkSizeTriedBytes = 2 * GiB;

/**
 * The unit of holes in a file of this size: a power of two, such that the file's map stays within
 * chunkMapMaxBytes. Zeros are worth dropping only in runs of whole, aligned units.
 */
export function holeGranularityBytes(fileSizeBytes: number): number {
  let unitBytes = granularityMinBytes;
  while (fileSizeBytes / unitBytes > chunkMapMaxBytes / chunkMapEntrySizeBytes) unitBytes *= 2;
  return unitBytes;
}

export type FileShape =
  | { kind: 'inline'; bytes: Uint8Array }
  /** One run of blocks. */
  | { kind: 'flat'; dataOffsetBytes: number }
  | { kind: 'chunks'; chunkSizeBytes: number; entryCount: number; extents: readonly Extent[] };

/** The simplest layout for a placement. A placement that breaks its rules is a bug: it asserts. */
export function shapeOf(
  placement: Placement,
  fileSizeBytes: number,
  dataSizeBytes: number,
): FileShape {
  if (placement.kind === 'inline') {
    assert(placement.bytes.length === fileSizeBytes, 'an inline file is whole');
    assert(fileSizeBytes <= inlineFileSizeMaxBytes, 'an inline file is small');
    return placement;
  }
  const granularityBytes = holeGranularityBytes(fileSizeBytes);
  const extents = joined(placement.extents);
  let endBytes = 0;
  for (const extent of extents) {
    const extentEnd = extent.fileOffsetBytes + extent.lengthBytes;
    const lastBytes = extent.dataOffsetBytes + alignUp(extent.lengthBytes, blockSizeBytes);
    assert(extent.lengthBytes > 0, 'an extent holds bytes');
    assert(extent.fileOffsetBytes >= endBytes, 'extents are in order');
    assert(extent.fileOffsetBytes % granularityBytes === 0, 'an extent starts at a unit');
    assert(isBoundary(extentEnd, granularityBytes, fileSizeBytes), 'an extent ends at a unit');
    assert(extentEnd <= fileSizeBytes, 'an extent is within the file');
    assert(extent.dataOffsetBytes % blockSizeBytes === 0, 'data starts at a block');
    assert(lastBytes <= dataSizeBytes, 'data is within the data region');
    endBytes = extentEnd;
  }
  if (fileSizeBytes === 0) return { kind: 'inline', bytes: new Uint8Array(0) };
  const [first] = extents;
  if (first !== undefined && first.lengthBytes === fileSizeBytes)
    return { kind: 'flat', dataOffsetBytes: first.dataOffsetBytes };
  const chunkSizeBytes = chunkSizeOf(extents, fileSizeBytes, granularityBytes);
  const entryCount = Math.ceil(fileSizeBytes / chunkSizeBytes);
  return { kind: 'chunks', chunkSizeBytes, entryCount, extents };
}

function joined(extents: readonly Extent[]): Extent[] {
  const joinedExtents: Extent[] = [];
  for (const extent of extents) {
    const last = joinedExtents.at(-1);
    if (
      last !== undefined &&
      last.fileOffsetBytes + last.lengthBytes === extent.fileOffsetBytes &&
      last.dataOffsetBytes + last.lengthBytes === extent.dataOffsetBytes
    ) {
      last.lengthBytes += extent.lengthBytes;
    } else {
      joinedExtents.push({ ...extent });
    }
  }
  return joinedExtents;
}

function isBoundary(offsetBytes: number, unitBytes: number, fileSizeBytes: number): boolean {
  return offsetBytes === fileSizeBytes || offsetBytes % unitBytes === 0;
}

/** The largest unit at which every extent still starts and ends: the shortest map. */
function chunkSizeOf(
  extents: readonly Extent[],
  fileSizeBytes: number,
  granularityBytes: number,
): number {
  let sizeBytes = granularityBytes;
  const fits = (unitBytes: number): boolean =>
    extents.every(
      ({ fileOffsetBytes, lengthBytes }) =>
        fileOffsetBytes % unitBytes === 0 &&
        isBoundary(fileOffsetBytes + lengthBytes, unitBytes, fileSizeBytes),
    );
  while (sizeBytes < fileSizeBytes && sizeBytes < chunkSizeTriedBytes && fits(sizeBytes * 2))
    sizeBytes *= 2;
  return sizeBytes;
}

/** The chunk format of an inode: the unit's power of two above a block's. */
export function chunkFormatOf(chunkSizeBytes: number): number {
  return Math.round(Math.log2(chunkSizeBytes)) - blockSizeBits;
}

/** Writes a map of 4-byte block numbers. `dataBlock` is the first block of the data region. */
export function writeChunkMap(
  target: Buffer,
  at: number,
  shape: { chunkSizeBytes: number; entryCount: number; extents: readonly Extent[] },
  dataBlock: number,
): void {
  const { chunkSizeBytes, entryCount, extents } = shape;
  for (let i = 0; i < entryCount; i++)
    target.writeUInt32LE(nullBlock, at + i * chunkMapEntrySizeBytes);
  const blocksPerChunk = chunkSizeBytes / blockSizeBytes;
  for (const { fileOffsetBytes, lengthBytes, dataOffsetBytes } of extents) {
    const first = fileOffsetBytes / chunkSizeBytes;
    const end = Math.ceil((fileOffsetBytes + lengthBytes) / chunkSizeBytes);
    let block = dataBlock + dataOffsetBytes / blockSizeBytes;
    for (let i = first; i < end; i++) {
      target.writeUInt32LE(block, at + i * chunkMapEntrySizeBytes);
      block += blocksPerChunk;
    }
  }
}
