/**
 * EROFS on disk, version 1, uncompressed: offsets and constants. docs/format/disk.md says which
 * part of it we write and why; the source of every fact is the kernel's fs/erofs/erofs_fs.h.
 * All numbers are little-endian.
 */

import type { Inode } from '../tree/tree.ts';

export const blockSizeBits = 12;

export const superblockOffsetBytes = 1024;
export const superblockSizeBytes = 128;
export const magic = 0xe0f5e1e2;

/** From the start of the superblock. */
export const superblockAt = {
  magic: 0,
  checksum: 4,
  featureCompat: 8,
  blockSizeBits: 12,
  rootNid: 14,
  inodeCount: 16,
  epochSeconds: 24,
  epochNanoseconds: 32,
  blocks: 36,
  metadataBlock: 40,
  xattrBlock: 44,
  uuid: 48,
  featureIncompat: 80,
  directoryBlockBits: 90,
} as const;
export const uuidSizeBytes = 16;

export const compatChecksum = 0x1;
export const compatMtime = 0x2;
/** Only says how LZ4 data is aligned; mkfs.erofs sets it in images without any. */
export const incompatLz4Padding = 0x1;
export const incompatChunkedFile = 0x4;

/** An inode is named by its nid: its offset from the metadata's start in slots of this size. */
export const slotSizeBytes = 32;
/** The root's nid is a 16-bit field of the superblock. */
export const rootNidMax = 0xffff;
/** Right behind the superblock: nid 36. A nid of 0 would hide entries from readdir(3). */
export const firstInodeOffsetBytes = superblockOffsetBytes + superblockSizeBytes;

export const compactInodeSizeBytes = 32;
export const extendedInodeSizeBytes = 64;

/** Bit 0 of i_format; bits 1 to 3 are the data layout; all others are 0. */
export const formatExtended = 0x1;
export const layoutFlatPlain = 0;
export const layoutFlatInline = 2;
export const layoutChunkBased = 4;

/** Fields that both kinds of inode have at one place. */
export const inodeAt = {
  format: 0,
  xattrCount: 2,
  mode: 4,
  /** Compact: the link count. Extended: high bits of a block number, 0 here. */
  nb: 6,
  size: 8,
  /** Start block, device number or chunk format. */
  data: 16,
  serial: 20,
} as const;
export const compactAt = { mtimeSinceEpoch: 12, uid: 24, gid: 26 } as const;
export const extendedAt = {
  uid: 24,
  gid: 28,
  mtimeSeconds: 32,
  mtimeNanoseconds: 40,
  linkCount: 44,
} as const;

/** A block number that stands for no block: a hole in a chunk map, or an inode without blocks. */
export const nullBlock = 0xffffffff;

/** Chunk format, the low half of an inode's data word. */
export const chunkFormatBitsMask = 0x1f;
export const chunkFormatIndexes = 0x20;
export const chunkMapEntrySizeBytes = 4;
export const chunkIndexSizeBytes = 8;

export const direntSizeBytes = 12;
export const direntAt = { nid: 0, nameOffset: 8, fileType: 10 } as const;

export const xattrHeaderSizeBytes = 12;
export const xattrHeaderSharedCountAt = 4;
export const xattrEntryHeaderSizeBytes = 4;
export const xattrEntryAt = { nameLength: 0, nameIndex: 1, valueSize: 2 } as const;
/** An id of a shared entry, and the unit in which ids and sizes count. */
export const xattrUnitBytes = 4;
export const xattrsSharedMax = 255;
/** i_xattr_icount is 16 bits: the header, then 65,534 units. */
export const xattrBodyMaxBytes = xattrHeaderSizeBytes + (0xffff - 1) * xattrUnitBytes;

export type InodeKind = Inode['kind'] | 'socket';

/** S_IFMT bits of i_mode, and the file type of a directory entry. */
export const kindCodes: Readonly<Record<InodeKind, { modeBits: number; fileType: number }>> = {
  file: { modeBits: 0o100000, fileType: 1 },
  directory: { modeBits: 0o040000, fileType: 2 },
  'character-device': { modeBits: 0o020000, fileType: 3 },
  'block-device': { modeBits: 0o060000, fileType: 4 },
  fifo: { modeBits: 0o010000, fileType: 5 },
  socket: { modeBits: 0o140000, fileType: 6 },
  symlink: { modeBits: 0o120000, fileType: 7 },
};
export const modeTypeMask = 0o170000;
export const modePermissionMask = 0o007777;

/** The kernel's "new" encoding of device numbers: 12 bits of major, 20 bits of minor. */
export function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

export function decodeDevice(word: number): { major: number; minor: number } {
  return { major: (word >>> 8) & 0xfff, minor: (word & 0xff) | ((word >>> 12) & 0xfff00) };
}

/** A safe integer as 64 bits, in two's complement. */
export function writeInt64(target: Buffer, at: number, value: number): void {
  target.writeUInt32LE(value >>> 0, at);
  target.writeInt32LE(Math.floor(value / 2 ** 32), at + 4);
}

/** Undefined if it is no safe integer. */
export function readInt64(source: Buffer, at: number): number | undefined {
  const value = source.readInt32LE(at + 4) * 2 ** 32 + source.readUInt32LE(at);
  return Number.isSafeInteger(value) ? value : undefined;
}

export function alignUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
