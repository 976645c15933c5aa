/**
 * A directory's content: blocks of entries, each block complete in itself: N entries of 12 bytes,
 * then their N names. Names are in strict memcmp order over the whole directory, `.` and `..`
 * sorted in like any other. A block that is not full is zero to its end, except for the last.
 */

import { type ByteString, byteString } from '../base/byte-string.ts';
import { ImgstoreError } from '../base/errors.ts';
import { blockSizeBytes, nameLengthMaxBytes } from '../base/limits.ts';
import { direntAt, direntSizeBytes, type InodeKind, kindCodes, writeInt64 } from './format.ts';

export interface DirectoryEntry {
  name: ByteString;
  nid: number;
  /** Undefined if the entry does not say. */
  kind: InodeKind | undefined;
}

/** Entries [start, end) share a block and use `usedBytes` of it. */
export interface BlockRange {
  start: number;
  end: number;
  usedBytes: number;
}

/** How sorted names fall into blocks: as many as fit, as mkfs.erofs does. */
export function* directoryBlocks(names: readonly ByteString[]): Generator<BlockRange> {
  let start = 0;
  let usedBytes = 0;
  for (let i = 0; i < names.length; i++) {
    const entryBytes = direntSizeBytes + names[i]!.length;
    if (usedBytes + entryBytes > blockSizeBytes) {
      yield { start, end: i, usedBytes };
      start = i;
      usedBytes = 0;
    }
    usedBytes += entryBytes;
  }
  yield { start, end: names.length, usedBytes };
}

/** Full blocks count whole, the last by what it uses. */
export function directorySizeBytes(names: readonly ByteString[]): number {
  let blocks = 0;
  let lastBytes = 0;
  for (const range of directoryBlocks(names)) {
    blocks++;
    lastBytes = range.usedBytes;
  }
  return (blocks - 1) * blockSizeBytes + lastBytes;
}

/** Writes one block to zeroed bytes at `at`. */
export function writeDirectoryBlock(
  target: Buffer,
  at: number,
  range: BlockRange,
  names: readonly ByteString[],
  entryOf: (index: number) => { nid: number; kind: InodeKind },
): void {
  let nameOffset = (range.end - range.start) * direntSizeBytes;
  let entryAt = at;
  for (let i = range.start; i < range.end; i++) {
    const { nid, kind } = entryOf(i);
    writeInt64(target, entryAt + direntAt.nid, nid);
    target.writeUInt16LE(nameOffset, entryAt + direntAt.nameOffset);
    target.writeUInt8(kindCodes[kind].fileType, entryAt + direntAt.fileType);
    target.write(names[i]!, at + nameOffset, 'latin1');
    nameOffset += names[i]!.length;
    entryAt += direntSizeBytes;
  }
}

const kindsByFileType: readonly (InodeKind | undefined)[] = (() => {
  const kinds: (InodeKind | undefined)[] = [undefined];
  for (const [kind, codes] of Object.entries(kindCodes)) kinds[codes.fileType] = kind as InodeKind;
  return kinds;
})();

/**
 * Reads one block; `what` names it in errors. Checked: every offset and type, names that can be
 * file names, and their order. CORRUPT otherwise.
 */
export function parseDirectoryBlock(block: Buffer, what: string): DirectoryEntry[] {
  const entries: DirectoryEntry[] = [];
  const count = entryCountOf(block, what);
  for (let i = 0; i < count; i++) {
    const entryAt = i * direntSizeBytes;
    const high = block.readUInt32LE(entryAt + direntAt.nid + 4);
    const nid = high * 2 ** 32 + block.readUInt32LE(entryAt + direntAt.nid);
    if (!Number.isSafeInteger(nid)) throw corrupt(what, `entry ${i} has no possible nid`);
    const fileType = block.readUInt8(entryAt + direntAt.fileType);
    if (fileType >= kindsByFileType.length)
      throw corrupt(what, `entry ${i} has the unknown type ${fileType}`);
    const name = nameOf(block, i, count, what);
    if (i > 0 && entries[i - 1]!.name >= name) throw corrupt(what, `entry ${i} is out of order`);
    entries.push({ name, nid, kind: kindsByFileType[fileType] });
  }
  return entries;
}

/** The name that a search for a block compares with. */
export function firstNameOf(block: Buffer, what: string): ByteString {
  return nameOf(block, 0, entryCountOf(block, what), what);
}

function entryCountOf(block: Buffer, what: string): number {
  const entriesEnd = block.length < direntSizeBytes ? 0 : block.readUInt16LE(direntAt.nameOffset);
  if (entriesEnd === 0 || entriesEnd % direntSizeBytes !== 0 || entriesEnd >= block.length)
    throw corrupt(what, 'its first name is not where entries end');
  return entriesEnd / direntSizeBytes;
}

function nameOf(block: Buffer, index: number, count: number, what: string): ByteString {
  const entryAt = index * direntSizeBytes;
  const start = block.readUInt16LE(entryAt + direntAt.nameOffset);
  let end = block.length;
  if (index + 1 < count) {
    end = block.readUInt16LE(entryAt + direntSizeBytes + direntAt.nameOffset);
  } else if (start < end) {
    const zero = block.subarray(start, end).indexOf(0);
    if (zero >= 0) end = start + zero;
  }
  const lengthBytes = end - start;
  if (start < count * direntSizeBytes || end > block.length)
    throw corrupt(what, `the name of entry ${index} is not among the names`);
  if (lengthBytes < 1 || lengthBytes > nameLengthMaxBytes)
    throw corrupt(what, `entry ${index} has a name of ${lengthBytes} bytes`);
  const name = byteString(block.subarray(start, end));
  if (name.includes('/') || name.includes('\0'))
    throw corrupt(what, `entry ${index} has a name that no file can have`);
  return name;
}

function corrupt(what: string, state: string): ImgstoreError {
  return new ImgstoreError('CORRUPT', `Cannot read ${what}: ${state}`);
}
