/** The fixed part of an inode, compact (32 bytes) or extended (64 bytes). */

import { ImgstoreError } from '../base/errors.ts';
import {
  inodeAt as at,
  compactAt,
  compactInodeSizeBytes,
  extendedAt,
  extendedInodeSizeBytes,
  formatExtended,
  type InodeKind,
  kindCodes,
  layoutChunkBased,
  layoutFlatInline,
  layoutFlatPlain,
  modePermissionMask,
  modeTypeMask,
  readInt64,
  writeInt64,
  xattrHeaderSizeBytes,
  xattrUnitBytes,
} from './format.ts';

export type Layout = typeof layoutFlatPlain | typeof layoutFlatInline | typeof layoutChunkBased;

export interface InodeCore {
  layout: Layout;
  kind: InodeKind;
  /** 0 to 0o7777. */
  mode: number;
  linkCount: number;
  sizeBytes: number;
  xattrBodySizeBytes: number;
  /** Start block, device number or chunk format: what it is follows from kind and layout. */
  dataWord: number;
  uid: number;
  gid: number;
  mtimeSeconds: number;
  mtimeNanoseconds: number;
}

export interface Epoch {
  epochSeconds: number;
  epochNanoseconds: number;
}

/**
 * Whether a compact inode can say it all. Its time is the epoch's: before Linux 6.15 a compact
 * inode has no time of its own.
 */
export function fitsCompact(
  core: Pick<InodeCore, 'linkCount' | 'sizeBytes' | 'uid' | 'gid'>,
): boolean {
  return (
    core.linkCount <= 0xffff &&
    core.sizeBytes <= 0xffffffff &&
    core.uid <= 0xffff &&
    core.gid <= 0xffff
  );
}

/** Writes to zeroed bytes; a compact inode's time is not written: it is the superblock's. */
export function writeInode(
  target: Buffer,
  start: number,
  core: InodeCore,
  options: { extended: boolean; serial: number },
): void {
  const format = (options.extended ? formatExtended : 0) | (core.layout << 1);
  target.writeUInt16LE(format, start + at.format);
  target.writeUInt16LE(xattrCountOf(core.xattrBodySizeBytes), start + at.xattrCount);
  target.writeUInt16LE(kindCodes[core.kind].modeBits | core.mode, start + at.mode);
  target.writeUInt32LE(core.dataWord, start + at.data);
  target.writeUInt32LE(options.serial, start + at.serial);
  if (options.extended) {
    writeInt64(target, start + at.size, core.sizeBytes);
    target.writeUInt32LE(core.uid, start + extendedAt.uid);
    target.writeUInt32LE(core.gid, start + extendedAt.gid);
    writeInt64(target, start + extendedAt.mtimeSeconds, core.mtimeSeconds);
    target.writeUInt32LE(core.mtimeNanoseconds, start + extendedAt.mtimeNanoseconds);
    target.writeUInt32LE(core.linkCount, start + extendedAt.linkCount);
  } else {
    target.writeUInt16LE(core.linkCount, start + at.nb);
    target.writeUInt32LE(core.sizeBytes, start + at.size);
    target.writeUInt16LE(core.uid, start + compactAt.uid);
    target.writeUInt16LE(core.gid, start + compactAt.gid);
  }
}

function xattrCountOf(bodySizeBytes: number): number {
  return bodySizeBytes === 0 ? 0 : (bodySizeBytes - xattrHeaderSizeBytes) / xattrUnitBytes + 1;
}

export function inodeSizeBytes(extended: boolean): number {
  return extended ? extendedInodeSizeBytes : compactInodeSizeBytes;
}

/** Whether an inode that begins with these bytes has 64 of them. */
export function isExtended(bytes: Buffer): boolean {
  return (bytes.readUInt16LE(at.format) & formatExtended) !== 0;
}

/**
 * Reads an inode's 32 or 64 bytes. `what` names it in errors: "inode 36 at byte 1152". Throws
 * UNSUPPORTED for compression and for features of later kernels, CORRUPT for what is no inode.
 */
export function parseInode(bytes: Buffer, epoch: Epoch, what: string): InodeCore {
  const format = bytes.readUInt16LE(at.format);
  const extended = isExtended(bytes);
  const layout = (format >>> 1) & 0x7;
  if (format >>> 4 !== 0) throw unsupported(what, `its format 0x${format.toString(16)} is unknown`);
  if (layout === 1 || layout === 3) throw unsupported(what, 'it is compressed');
  if (layout !== layoutFlatPlain && layout !== layoutFlatInline && layout !== layoutChunkBased)
    throw corrupt(what, `its data layout ${layout} does not exist`);
  if (extended && bytes.readUInt16LE(at.nb) !== 0)
    throw unsupported(what, 'it has a 48-bit block number');
  const xattrCount = bytes.readUInt16LE(at.xattrCount);
  if (xattrCount === 1) throw corrupt(what, 'it has an empty list of extended attributes');
  const modeWord = bytes.readUInt16LE(at.mode);
  return {
    layout,
    kind: kindOf(modeWord & modeTypeMask, what),
    mode: modeWord & modePermissionMask,
    xattrBodySizeBytes:
      xattrCount === 0 ? 0 : xattrHeaderSizeBytes + (xattrCount - 1) * xattrUnitBytes,
    dataWord: bytes.readUInt32LE(at.data),
    ...(extended ? parseExtended(bytes, what) : parseCompact(bytes, epoch)),
  };
}

type SizedFields = Pick<
  InodeCore,
  'linkCount' | 'sizeBytes' | 'uid' | 'gid' | 'mtimeSeconds' | 'mtimeNanoseconds'
>;

function parseCompact(bytes: Buffer, epoch: Epoch): SizedFields {
  return {
    linkCount: bytes.readUInt16LE(at.nb),
    sizeBytes: bytes.readUInt32LE(at.size),
    uid: bytes.readUInt16LE(compactAt.uid),
    gid: bytes.readUInt16LE(compactAt.gid),
    mtimeSeconds: epoch.epochSeconds + bytes.readUInt32LE(compactAt.mtimeSinceEpoch),
    mtimeNanoseconds: epoch.epochNanoseconds,
  };
}

function parseExtended(bytes: Buffer, what: string): SizedFields {
  const sizeBytes = readInt64(bytes, at.size);
  const mtimeSeconds = readInt64(bytes, extendedAt.mtimeSeconds);
  const mtimeNanoseconds = bytes.readUInt32LE(extendedAt.mtimeNanoseconds);
  if (sizeBytes === undefined || sizeBytes < 0) throw corrupt(what, 'its size is out of range');
  if (mtimeSeconds === undefined || mtimeNanoseconds >= 1e9)
    throw corrupt(what, 'its time is out of range');
  return {
    linkCount: bytes.readUInt32LE(extendedAt.linkCount),
    sizeBytes,
    uid: bytes.readUInt32LE(extendedAt.uid),
    gid: bytes.readUInt32LE(extendedAt.gid),
    mtimeSeconds,
    mtimeNanoseconds,
  };
}

const kindsByTypeBits: ReadonlyMap<number, InodeKind> = new Map(
  Object.entries(kindCodes).map(([kind, { modeBits }]) => [modeBits, kind as InodeKind]),
);

function kindOf(typeBits: number, what: string): InodeKind {
  const kind = kindsByTypeBits.get(typeBits);
  if (kind === undefined) throw corrupt(what, `its type 0${typeBits.toString(8)} does not exist`);
  return kind;
}

function unsupported(what: string, state: string): ImgstoreError {
  return new ImgstoreError('UNSUPPORTED', `Cannot read ${what}: ${state}`, {
    hint: 'Only uncompressed EROFS of the original format is read.',
  });
}

function corrupt(what: string, state: string): ImgstoreError {
  return new ImgstoreError('CORRUPT', `Cannot read ${what}: ${state}`);
}
