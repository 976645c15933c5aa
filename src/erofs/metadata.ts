/**
 * The bytes of a metadata region whose layout is settled: superblock, inodes, directories, shared
 * attributes, small files. Made piece by piece in order of place, so that a window of it is in
 * memory and never all. Everything is derived from tree and layout, as often as it is asked for.
 */

import { assert } from '../base/assert.ts';
import { bytesOf } from '../base/byte-string.ts';
import { Sha256 } from '../base/digest.ts';
import { blockSizeBytes } from '../base/limits.ts';
import { directoryBlocks, writeDirectoryBlock } from './directory.ts';
import {
  chunkMapEntrySizeBytes,
  encodeDevice,
  type InodeKind,
  layoutFlatInline,
  nullBlock,
  slotSizeBytes,
  superblockOffsetBytes,
  superblockSizeBytes,
  uuidSizeBytes,
} from './format.ts';
import { type InodeCore, inodeSizeBytes, writeInode } from './inode.ts';
import { headSizeBytes, type MetadataLayout } from './layout.ts';
import { chunkFormatOf, type FileShape, writeChunkMap } from './placement.ts';
import type { InodePlan, PlannedInode } from './plan.ts';
import { type Piece, windowsOf } from './region.ts';
import { type Superblock, writeChecksum, writeSuperblock } from './superblock.ts';

export class MetadataWriter {
  readonly #plan: InodePlan;
  readonly #layout: MetadataLayout;
  readonly #shapeOfFile: (planned: PlannedInode) => FileShape;
  readonly #superblock: Superblock;
  /** In order of their places; and those that have blocks of their own, in order of these. */
  readonly #inodes: readonly PlannedInode[];
  readonly #owners: readonly PlannedInode[];
  #uuid: Buffer | undefined;

  constructor(
    plan: InodePlan,
    layout: MetadataLayout,
    shapeOfFile: (planned: PlannedInode) => FileShape,
    diskSizeBytes: number,
  ) {
    this.#plan = plan;
    this.#layout = layout;
    this.#shapeOfFile = shapeOfFile;
    this.#inodes = plan.inodes.toSorted((a, b) => a.nid - b.nid);
    this.#owners = plan.inodes
      .filter(planned => planned.ownBlockCount > 0)
      .sort((a, b) => a.ownBlock - b.ownBlock);
    this.#superblock = {
      rootNid: plan.inodes[0]!.nid,
      inodeCount: plan.inodes.length,
      epochSeconds: plan.epochSeconds,
      epochNanoseconds: plan.epochNanoseconds,
      blocks: diskSizeBytes / blockSizeBytes,
      metadataBlock: 0,
      xattrBlock: layout.xattrBlock,
      uuid: Buffer.alloc(uuidSizeBytes),
      hasChunkedFiles: layout.hasChunkedFiles,
    };
  }

  metadata(): Iterable<Buffer> {
    this.#uuid ??= this.#uuidOfContent();
    return this.#windows({ ...this.#superblock, uuid: this.#uuid });
  }

  /**
   * The uuid is the hash of the metadata that has none, as a UUID of version 8 (RFC 9562): file
   * systems stacked on disks tell these apart by it.
   */
  #uuidOfContent(): Buffer {
    const hash = new Sha256();
    for (const bytes of this.#windows(this.#superblock)) hash.update(bytes);
    const uuid = Buffer.from(hash.hex(), 'hex').subarray(0, uuidSizeBytes);
    uuid[6] = (uuid[6]! & 0x0f) | 0x80;
    uuid[8] = (uuid[8]! & 0x3f) | 0x80;
    return uuid;
  }

  *#windows(superblock: Superblock): Generator<Buffer> {
    let isFirst = true;
    for (const window of windowsOf(this.#pieces(superblock), this.#layout.sizeBytes)) {
      if (isFirst) writeChecksum(window);
      isFirst = false;
      yield window;
    }
  }

  /** Everything in the region, in order. */
  *#pieces(superblock: Superblock): Generator<Piece> {
    yield {
      offsetBytes: superblockOffsetBytes,
      lengthBytes: superblockSizeBytes,
      fill: (target, at) => writeSuperblock(target, at, superblock),
    };
    const blockPieces = this.#blockPieces();
    let block = blockPieces.next();
    for (const planned of this.#inodes) {
      const piece = this.#inodePiece(planned);
      while (!block.done && block.value.offsetBytes < piece.offsetBytes) {
        yield block.value;
        block = blockPieces.next();
      }
      yield piece;
    }
    for (; !block.done; block = blockPieces.next()) yield block.value;
  }

  #inodePiece(planned: PlannedInode): Piece {
    const headBytes = headSizeBytes(planned);
    const shape = this.#shapeOf(planned);
    const bodyBytes =
      shape?.kind === 'chunks'
        ? shape.entryCount * chunkMapEntrySizeBytes
        : planned.layout === layoutFlatInline
          ? planned.sizeBytes % blockSizeBytes
          : 0;
    return {
      offsetBytes: planned.nid * slotSizeBytes,
      lengthBytes: headBytes + bodyBytes,
      fill: (target, at) => {
        const bodyAt = at + headBytes;
        this.#writeHead(target, at, planned, shape);
        if (shape?.kind === 'chunks') writeChunkMap(target, bodyAt, shape, this.#dataBlock);
        else if (bodyBytes > 0) this.#writeTail(target, bodyAt, planned, shape);
      },
    };
  }

  #shapeOf(planned: PlannedInode): FileShape | undefined {
    return planned.inode.kind === 'file' ? this.#shapeOfFile(planned) : undefined;
  }

  get #dataBlock(): number {
    return this.#layout.sizeBytes / blockSizeBytes;
  }

  #writeHead(
    target: Buffer,
    at: number,
    planned: PlannedInode,
    shape: FileShape | undefined,
  ): void {
    const { inode, extended, nid } = planned;
    const { xattrs } = this.#plan;
    const core: InodeCore = {
      layout: planned.layout,
      kind: inode.kind,
      mode: inode.mode,
      linkCount: planned.linkCount,
      sizeBytes: planned.sizeBytes,
      xattrBodySizeBytes: planned.xattrBodySizeBytes,
      dataWord: this.#dataWord(planned, shape),
      uid: inode.uid,
      gid: inode.gid,
      mtimeSeconds: inode.mtimeSeconds,
      mtimeNanoseconds: inode.mtimeNanoseconds,
    };
    writeInode(target, at, core, { extended, serial: nid });
    xattrs.writeBody(target, at + inodeSizeBytes(extended), inode.xattrs);
  }

  #dataWord(planned: PlannedInode, shape: FileShape | undefined): number {
    const { inode } = planned;
    switch (inode.kind) {
      case 'character-device':
      case 'block-device':
        return encodeDevice(inode.major, inode.minor);
      case 'fifo':
        return 0;
      case 'file':
        if (shape?.kind === 'chunks') return chunkFormatOf(shape.chunkSizeBytes);
        if (shape?.kind === 'flat') return this.#dataBlock + shape.dataOffsetBytes / blockSizeBytes;
    }
    return planned.ownBlockCount > 0 ? planned.ownBlock : nullBlock;
  }

  /** What follows an inode in its block: the end of a directory, a target, a small file. */
  #writeTail(
    target: Buffer,
    at: number,
    planned: PlannedInode,
    shape: FileShape | undefined,
  ): void {
    if (planned.inode.kind !== 'directory') {
      target.set(flatBytesOf(planned, shape), at);
      return;
    }
    const ranges = [...directoryBlocks(planned.names)];
    writeDirectoryBlock(target, at, ranges.at(-1)!, planned.names, i => entryOf(planned, i));
  }

  /** What lies in blocks of its own, in order: shared attributes, then bodies of inodes. */
  *#blockPieces(): Generator<Piece> {
    const { xattrBlock, xattrAreaSizeBytes } = this.#layout;
    if (xattrBlock > 0) {
      yield {
        offsetBytes: xattrBlock * blockSizeBytes,
        lengthBytes: xattrAreaSizeBytes,
        fill: (target, at) => this.#plan.xattrs.writeArea(target, at),
      };
    }
    for (const owner of this.#owners) yield* this.#ownPieces(owner);
  }

  *#ownPieces(planned: PlannedInode): Generator<Piece> {
    let offsetBytes = planned.ownBlock * blockSizeBytes;
    if (planned.inode.kind !== 'directory') {
      const bytes = flatBytesOf(planned, this.#shapeOf(planned));
      const fill = (target: Buffer, at: number): void => target.set(bytes, at);
      yield { offsetBytes, lengthBytes: bytes.length, fill };
      return;
    }
    let left = planned.ownBlockCount;
    for (const range of directoryBlocks(planned.names)) {
      if (left-- === 0) return;
      yield {
        offsetBytes,
        lengthBytes: range.usedBytes,
        fill: (target, at) =>
          writeDirectoryBlock(target, at, range, planned.names, i => entryOf(planned, i)),
      };
      offsetBytes += blockSizeBytes;
    }
  }
}

function entryOf(planned: PlannedInode, index: number): { nid: number; kind: InodeKind } {
  const child = planned.children[index]!;
  return { nid: child.nid, kind: child.inode.kind };
}

/** The content of an inode that is no directory, where the metadata holds it. */
function flatBytesOf(planned: PlannedInode, shape: FileShape | undefined): Uint8Array {
  if (planned.inode.kind === 'symlink') return bytesOf(planned.inode.target);
  assert(shape?.kind === 'inline', 'only small files are in the metadata');
  return shape.bytes;
}
