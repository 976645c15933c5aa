/** The superblock: 128 bytes at offset 1024, under a checksum that reaches to the block's end. */

import { assert } from '../base/assert.ts';
import { ImgstoreError } from '../base/errors.ts';
import { blockSizeBytes } from '../base/limits.ts';
import { crc32cUninverted } from './crc32c.ts';
import {
  superblockAt as at,
  blockSizeBits,
  compatChecksum,
  compatMtime,
  incompatChunkedFile,
  incompatLz4Padding,
  magic,
  readInt64,
  superblockOffsetBytes,
  superblockSizeBytes,
  uuidSizeBytes,
  writeInt64,
} from './format.ts';

export interface Superblock {
  rootNid: number;
  inodeCount: number;
  /** The time of every compact inode. */
  epochSeconds: number;
  epochNanoseconds: number;
  /** Of the whole disk. */
  blocks: number;
  /** Where nids count from. */
  metadataBlock: number;
  /** Where ids of shared xattrs count from; 0 if there are none. */
  xattrBlock: number;
  /** 16 bytes. */
  uuid: Buffer;
  hasChunkedFiles: boolean;
}

/** Writes it to 128 zeroed bytes, except for the checksum. */
export function writeSuperblock(bytes: Buffer, start: number, fields: Superblock): void {
  const target = bytes.subarray(start, start + superblockSizeBytes);
  assert(fields.uuid.length === uuidSizeBytes, 'a uuid has 16 bytes');
  target.writeUInt32LE(magic, at.magic);
  target.writeUInt32LE(compatChecksum | compatMtime, at.featureCompat);
  target.writeUInt8(blockSizeBits, at.blockSizeBits);
  target.writeUInt16LE(fields.rootNid, at.rootNid);
  writeInt64(target, at.inodeCount, fields.inodeCount);
  writeInt64(target, at.epochSeconds, fields.epochSeconds);
  target.writeUInt32LE(fields.epochNanoseconds, at.epochNanoseconds);
  target.writeUInt32LE(fields.blocks, at.blocks);
  target.writeUInt32LE(fields.metadataBlock, at.metadataBlock);
  target.writeUInt32LE(fields.xattrBlock, at.xattrBlock);
  fields.uuid.copy(target, at.uuid);
  target.writeUInt32LE(fields.hasChunkedFiles ? incompatChunkedFile : 0, at.featureIncompat);
}

/**
 * Completes a disk's first block (the leading bytes of `disk`) when all else in it is written: the
 * inodes there are under the checksum too.
 */
export function writeChecksum(disk: Buffer): void {
  disk.writeUInt32LE(checksumOf(disk), superblockOffsetBytes + at.checksum);
}

function checksumOf(block: Buffer): number {
  const covered = Buffer.from(block.subarray(superblockOffsetBytes, blockSizeBytes));
  covered.writeUInt32LE(0, at.checksum);
  return crc32cUninverted(covered);
}

/**
 * Reads the superblock from a disk's first block. UNSUPPORTED: no EROFS, or one with features
 * beyond ours; CORRUPT: its checksum or a field is wrong.
 */
export function parseSuperblock(block: Buffer): Superblock {
  const bytes = block.subarray(superblockOffsetBytes, superblockOffsetBytes + superblockSizeBytes);
  if (bytes.readUInt32LE(at.magic) !== magic) throw unsupported('it has no EROFS magic');
  checkFeatures(bytes);
  const summed = (bytes.readUInt32LE(at.featureCompat) & compatChecksum) !== 0;
  if (summed && checksumOf(block) !== bytes.readUInt32LE(at.checksum))
    throw corrupt('its checksum is wrong');
  const inodeCount = readInt64(bytes, at.inodeCount);
  const epochSeconds = readInt64(bytes, at.epochSeconds);
  const epochNanoseconds = bytes.readUInt32LE(at.epochNanoseconds);
  if (inodeCount === undefined || inodeCount < 0) throw corrupt('its inode count is out of range');
  if (epochSeconds === undefined || epochNanoseconds >= 1e9)
    throw corrupt('its time is out of range');
  return {
    rootNid: bytes.readUInt16LE(at.rootNid),
    inodeCount,
    epochSeconds,
    epochNanoseconds,
    blocks: bytes.readUInt32LE(at.blocks),
    metadataBlock: bytes.readUInt32LE(at.metadataBlock),
    xattrBlock: bytes.readUInt32LE(at.xattrBlock),
    uuid: Buffer.from(bytes.subarray(at.uuid, at.uuid + uuidSizeBytes)),
    hasChunkedFiles: (bytes.readUInt32LE(at.featureIncompat) & incompatChunkedFile) !== 0,
  };
}

function checkFeatures(bytes: Buffer): void {
  const blockBits = bytes.readUInt8(at.blockSizeBits);
  if (blockBits !== blockSizeBits)
    throw unsupported(`its block size is 2^${blockBits} bytes, not ${blockSizeBytes}`);
  if (bytes.readUInt8(at.directoryBlockBits) !== 0)
    throw unsupported('its directory blocks are not of the block size');
  const unknown =
    bytes.readUInt32LE(at.featureIncompat) & ~(incompatChunkedFile | incompatLz4Padding);
  if (unknown !== 0)
    throw unsupported(
      `it needs features 0x${(unknown >>> 0).toString(16)} that are not known here`,
    );
}

function unsupported(state: string): ImgstoreError {
  return new ImgstoreError('UNSUPPORTED', `Cannot read the disk's superblock: ${state}`, {
    hint: 'Only uncompressed EROFS with 4 KiB blocks is read.',
  });
}

function corrupt(state: string): ImgstoreError {
  return new ImgstoreError('CORRUPT', `Cannot read the disk's superblock: ${state}`);
}
