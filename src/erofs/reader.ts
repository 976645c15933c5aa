/**
 * Reads an EROFS disk: what we write, and what mkfs.erofs writes without compression. Everything on
 * the disk is taken for hostile: what this returns is well-formed and lies within the disk, or it
 * is an ImgstoreError CORRUPT or UNSUPPORTED that names inode and offset. Faults of the source pass
 * through. A call's memory is bounded whatever the disk says; nothing is kept but a few pages.
 */

import { assert } from '../base/assert.ts';
import { type ByteString, byteString } from '../base/byte-string.ts';
import { ImgstoreError } from '../base/errors.ts';
import { blockSizeBytes, MiB, symlinkTargetMaxBytes } from '../base/limits.ts';
import { type DirectoryEntry, firstNameOf, parseDirectoryBlock } from './directory.ts';
import {
  alignUp,
  chunkFormatBitsMask,
  chunkFormatIndexes,
  chunkIndexSizeBytes,
  chunkMapEntrySizeBytes,
  compactInodeSizeBytes,
  decodeDevice,
  extendedInodeSizeBytes,
  layoutChunkBased,
  layoutFlatInline,
  nullBlock,
  slotSizeBytes,
  superblockOffsetBytes,
  xattrBodyMaxBytes,
  xattrEntryHeaderSizeBytes,
  xattrUnitBytes,
} from './format.ts';
import { type InodeCore, inodeSizeBytes, isExtended, parseInode } from './inode.ts';
import { type DiskSource, PagedSource } from './source.ts';
import { parseSuperblock, type Superblock } from './superblock.ts';
import { parseXattrBody, parseXattrEntry, parseXattrEntrySize, type XattrEntry } from './xattr.ts';

/** Of a file with chunks of 4 KiB, 4 GiB of content; ours are at most 64 KiB long. */
const chunkMapReadMaxBytes = 4 * MiB;
/** Map entries are read in batches of this size. */
const chunkMapBatchBytes = blockSizeBytes;

export interface DiskInode extends InodeCore {
  nid: number;
  /** Of the inode on the disk. */
  offsetBytes: number;
  /** What stands behind the inode: attributes, then a chunk map or the tail of its data. */
  xattrOffsetBytes: number;
  bodyOffsetBytes: number;
  /** Bytes from the inode's start to the end of its body. */
  footprintBytes: number;
  /** Of device nodes. */
  device: { major: number; minor: number } | undefined;
  /** Of a file in chunks. */
  chunks: ChunkMap | undefined;
}

interface ChunkMap {
  chunkSizeBytes: number;
  entrySizeBytes: number;
  entryCount: number;
}

/** A run of a file; `diskOffsetBytes` is undefined for a hole, which reads as zeros. */
export interface FileExtent {
  fileOffsetBytes: number;
  lengthBytes: number;
  diskOffsetBytes: number | undefined;
}

export class DiskReader {
  readonly superblock: Superblock;
  readonly #pages: PagedSource;

  private constructor(superblock: Superblock, pages: PagedSource) {
    this.superblock = superblock;
    this.#pages = pages;
  }

  /** Reads the superblock. UNSUPPORTED: no EROFS, or one beyond ours. CORRUPT: damaged, cut off. */
  static async open(source: DiskSource): Promise<DiskReader> {
    const pages = new PagedSource(source);
    const superblock = parseSuperblock(await pages.read(0, blockSizeBytes, 'the first block'));
    const statedBytes = superblock.blocks * blockSizeBytes;
    if (superblock.blocks === 0 || statedBytes > source.sizeBytes) {
      throw new ImgstoreError(
        'CORRUPT',
        `Cannot read the disk: it has ${source.sizeBytes} bytes, ` +
          `its superblock says ${statedBytes}`,
      );
    }
    return new DiskReader(superblock, pages);
  }

  async root(): Promise<DiskInode> {
    const root = await this.inode(this.superblock.rootNid);
    if (root.kind !== 'directory') throw corrupt(root, 'the root is no directory');
    return root;
  }

  async inode(nid: number): Promise<DiskInode> {
    const offsetBytes = this.superblock.metadataBlock * blockSizeBytes + nid * slotSizeBytes;
    const what = whatOf({ nid, offsetBytes });
    if (offsetBytes < superblockOffsetBytes || offsetBytes > this.#sizeBytes)
      throw new ImgstoreError('CORRUPT', `Cannot read ${what}: it is not on the disk`);
    let bytes = await this.#pages.read(offsetBytes, compactInodeSizeBytes, what);
    const extended = isExtended(bytes);
    if (extended) bytes = await this.#pages.read(offsetBytes, extendedInodeSizeBytes, what);
    const core = parseInode(bytes, this.superblock, what);
    const xattrOffsetBytes = offsetBytes + inodeSizeBytes(extended);
    const headEnd = xattrOffsetBytes + core.xattrBodySizeBytes;
    const isDevice = core.kind === 'character-device' || core.kind === 'block-device';
    const inode: DiskInode = {
      ...core,
      nid,
      offsetBytes,
      xattrOffsetBytes,
      bodyOffsetBytes: headEnd,
      footprintBytes: headEnd - offsetBytes,
      device: isDevice ? decodeDevice(core.dataWord) : undefined,
      chunks: undefined,
    };
    this.#placeBody(inode);
    if (offsetBytes + inode.footprintBytes > this.#sizeBytes)
      throw corrupt(inode, 'it reaches beyond the end of the disk');
    return inode;
  }

  get #sizeBytes(): number {
    return this.superblock.blocks * blockSizeBytes;
  }

  /** Sets what depends on the layout, and holds that data in blocks lies within the disk. */
  #placeBody(inode: DiskInode): void {
    const { kind, layout, sizeBytes, dataWord } = inode;
    if (kind !== 'file' && kind !== 'directory' && kind !== 'symlink') return;
    if (kind === 'symlink' && (sizeBytes === 0 || sizeBytes > symlinkTargetMaxBytes))
      throw corrupt(inode, `its target has ${sizeBytes} bytes`);
    if (layout === layoutChunkBased) {
      if (kind !== 'file') throw unsupported(inode, `it is a ${kind} in chunks`);
      inode.chunks = chunkMapOf(inode);
      const { entryCount, entrySizeBytes } = inode.chunks;
      inode.bodyOffsetBytes = alignUp(inode.bodyOffsetBytes, entrySizeBytes);
      const mapEnd = inode.bodyOffsetBytes + entryCount * entrySizeBytes;
      inode.footprintBytes = mapEnd - inode.offsetBytes;
      return;
    }
    const tailBytes = tailSizeBytes(inode);
    if ((inode.bodyOffsetBytes % blockSizeBytes) + tailBytes > blockSizeBytes)
      throw corrupt(inode, 'its inline data crosses a block');
    inode.footprintBytes += tailBytes;
    const blocks = Math.ceil((sizeBytes - tailBytes) / blockSizeBytes);
    if (blocks > 0 && dataWord + blocks > this.superblock.blocks)
      throw corrupt(inode, 'its data is beyond the end of the disk');
  }

  /**
   * A directory's entries in order, `.` and `..` among them, a block (at most 315) at a time. Names
   * are sorted and differ; what nids lead to is not looked at.
   */
  async *entryBlocks(directory: DiskInode): AsyncGenerator<DirectoryEntry[]> {
    const count = entryBlockCount(directory);
    let last: ByteString | undefined;
    for (let i = 0; i < count; i++) {
      const what = blockNameOf(directory, i);
      const entries = parseDirectoryBlock(await this.#entryBlock(directory, i), what);
      if (last !== undefined && last >= entries[0]!.name)
        throw new ImgstoreError('CORRUPT', `Cannot read ${what}: entry 0 is out of order`);
      last = entries.at(-1)!.name;
      yield entries;
    }
  }

  /** The entry of that name, by binary search over the blocks. */
  async lookup(directory: DiskInode, name: ByteString): Promise<DirectoryEntry | undefined> {
    let low = 0;
    let high = entryBlockCount(directory) - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      const block = await this.#entryBlock(directory, middle);
      if (firstNameOf(block, blockNameOf(directory, middle)) <= name) low = middle;
      else high = middle - 1;
    }
    const block = await this.#entryBlock(directory, low);
    const entries = parseDirectoryBlock(block, blockNameOf(directory, low));
    return entries.find(entry => entry.name === name);
  }

  #entryBlock(directory: DiskInode, index: number): Promise<Buffer> {
    const lengthBytes = Math.min(blockSizeBytes, directory.sizeBytes - index * blockSizeBytes);
    return this.#flatBlock(directory, index, lengthBytes, blockNameOf(directory, index));
  }

  /** Block `index` of a directory or symlink: in the blocks that it has, or behind the inode. */
  #flatBlock(inode: DiskInode, index: number, lengthBytes: number, what: string): Promise<Buffer> {
    const isTail = inode.layout === layoutFlatInline && lengthBytes < blockSizeBytes;
    const offsetBytes = isTail ? inode.bodyOffsetBytes : (inode.dataWord + index) * blockSizeBytes;
    return this.#pages.read(offsetBytes, lengthBytes, what);
  }

  async readlink(symlink: DiskInode): Promise<ByteString> {
    assert(symlink.kind === 'symlink', 'only symlinks have targets');
    const what = `the target of ${whatOf(symlink)}`;
    const target = byteString(await this.#flatBlock(symlink, 0, symlink.sizeBytes, what));
    if (target.includes('\0')) throw corrupt(symlink, 'its target has a zero byte');
    return target;
  }

  /** Full names to values, in the disk's order: what is shared first. */
  async xattrs(inode: DiskInode): Promise<Map<ByteString, Buffer>> {
    const found = new Map<ByteString, Buffer>();
    if (inode.xattrBodySizeBytes === 0) return found;
    const what = whatOf(inode);
    const body = await this.#pages.read(inode.xattrOffsetBytes, inode.xattrBodySizeBytes, what);
    const { sharedIds, own } = parseXattrBody(body, what);
    let totalBytes = body.length;
    const add = ({ name, value }: XattrEntry): void => {
      if (found.has(name)) throw corrupt(inode, 'it has an extended attribute twice');
      found.set(name, value);
    };
    for (const id of sharedIds) {
      const entry = await this.#sharedXattr(id, what);
      totalBytes += entry.name.length + entry.value.length;
      if (totalBytes > 2 * xattrBodyMaxBytes)
        throw corrupt(inode, 'its extended attributes are larger than any inode may have');
      add(entry);
    }
    for (const entry of own) add(entry);
    return found;
  }

  async #sharedXattr(id: number, inodeName: string): Promise<XattrEntry> {
    const offsetBytes = this.superblock.xattrBlock * blockSizeBytes + id * xattrUnitBytes;
    const what = `shared extended attribute ${id} of ${inodeName}`;
    const header = await this.#pages.read(offsetBytes, xattrEntryHeaderSizeBytes, what);
    const sizeBytes = parseXattrEntrySize(header);
    return parseXattrEntry(await this.#pages.read(offsetBytes, sizeBytes, what), what);
  }

  /** Where a regular file's bytes are: all of it, in order, runs as long as they are contiguous. */
  async *extents(file: DiskInode): AsyncGenerator<FileExtent> {
    assert(file.kind === 'file', 'only regular files have extents');
    if (file.chunks !== undefined) {
      yield* this.#chunkExtents(file, file.chunks);
      return;
    }
    const tailBytes = tailSizeBytes(file);
    const blocksBytes = file.sizeBytes - tailBytes;
    const diskOffsetBytes = file.dataWord * blockSizeBytes;
    if (blocksBytes > 0) yield { fileOffsetBytes: 0, lengthBytes: blocksBytes, diskOffsetBytes };
    if (tailBytes > 0) {
      yield {
        fileOffsetBytes: blocksBytes,
        lengthBytes: tailBytes,
        diskOffsetBytes: file.bodyOffsetBytes,
      };
    }
  }

  async *#chunkExtents(file: DiskInode, map: ChunkMap): AsyncGenerator<FileExtent> {
    let run: FileExtent | undefined;
    const perBatch = chunkMapBatchBytes / map.entrySizeBytes;
    for (let first = 0; first < map.entryCount; first += perBatch) {
      const count = Math.min(perBatch, map.entryCount - first);
      const offsetBytes = file.bodyOffsetBytes + first * map.entrySizeBytes;
      const lengthBytes = count * map.entrySizeBytes;
      const what = `the chunk map of ${whatOf(file)}`;
      const batch = await this.#pages.read(offsetBytes, lengthBytes, what);
      for (let i = 0; i < count; i++) {
        const chunk = this.#chunkExtent(file, map, first + i, batch, i * map.entrySizeBytes);
        if (run !== undefined && continues(run, chunk)) {
          run.lengthBytes += chunk.lengthBytes;
        } else {
          if (run !== undefined) yield run;
          run = chunk;
        }
      }
    }
    if (run !== undefined) yield run;
  }

  #chunkExtent(
    file: DiskInode,
    map: ChunkMap,
    index: number,
    batch: Buffer,
    at: number,
  ): FileExtent {
    const fileOffsetBytes = index * map.chunkSizeBytes;
    const lengthBytes = Math.min(map.chunkSizeBytes, file.sizeBytes - fileOffsetBytes);
    const isIndex = map.entrySizeBytes === chunkIndexSizeBytes;
    const block = batch.readUInt32LE(isIndex ? at + 4 : at);
    if (block === nullBlock) return { fileOffsetBytes, lengthBytes, diskOffsetBytes: undefined };
    // High block bits and a device: features that the superblock did not announce.
    if (isIndex && batch.readUInt32LE(at) !== 0)
      throw unsupported(file, `chunk ${index} is on another device`);
    if (block + Math.ceil(lengthBytes / blockSizeBytes) > this.superblock.blocks)
      throw corrupt(file, `chunk ${index} is beyond the end of the disk`);
    return { fileOffsetBytes, lengthBytes, diskOffsetBytes: block * blockSizeBytes };
  }
}

function continues(run: FileExtent, next: FileExtent): boolean {
  if (run.diskOffsetBytes === undefined) return next.diskOffsetBytes === undefined;
  return run.diskOffsetBytes + run.lengthBytes === next.diskOffsetBytes;
}

function chunkMapOf(inode: DiskInode): ChunkMap {
  const format = inode.dataWord & 0xffff;
  if ((format & ~(chunkFormatBitsMask | chunkFormatIndexes)) !== 0)
    throw unsupported(inode, `its chunk format 0x${format.toString(16)} is unknown`);
  const chunkSizeBytes = blockSizeBytes * 2 ** (format & chunkFormatBitsMask);
  const entrySizeBytes =
    (format & chunkFormatIndexes) !== 0 ? chunkIndexSizeBytes : chunkMapEntrySizeBytes;
  const entryCount = Math.ceil(inode.sizeBytes / chunkSizeBytes);
  if (entryCount * entrySizeBytes > chunkMapReadMaxBytes) {
    throw new ImgstoreError(
      'LIMIT',
      `Cannot read ${whatOf(inode)}: its chunk map has ${entryCount} entries ` +
        `(at most ${chunkMapReadMaxBytes / entrySizeBytes})`,
    );
  }
  return { chunkSizeBytes, entrySizeBytes, entryCount };
}

function tailSizeBytes(inode: InodeCore): number {
  return inode.layout === layoutFlatInline ? inode.sizeBytes % blockSizeBytes : 0;
}

function entryBlockCount(directory: DiskInode): number {
  assert(directory.kind === 'directory', 'only directories have entries');
  if (directory.sizeBytes === 0) throw corrupt(directory, 'it is a directory without entries');
  return Math.ceil(directory.sizeBytes / blockSizeBytes);
}

function whatOf(inode: Pick<DiskInode, 'nid' | 'offsetBytes'>): string {
  return `inode ${inode.nid} at byte ${inode.offsetBytes}`;
}

function blockNameOf(directory: DiskInode, index: number): string {
  return `directory block ${index} of ${whatOf(directory)}`;
}

function corrupt(inode: DiskInode, state: string): ImgstoreError {
  return new ImgstoreError('CORRUPT', `Cannot read ${whatOf(inode)}: ${state}`);
}

function unsupported(inode: DiskInode, state: string): ImgstoreError {
  return new ImgstoreError('UNSUPPORTED', `Cannot read ${whatOf(inode)}: ${state}`);
}
