/**
 * Gives every inode of a plan its place in the metadata region.
 *
 * Invariants: what fits a block never crosses one (which an inline tail must not, and older kernels
 * are strict about); the root is in the first blocks, since its nid has 16 bits; places follow the
 * plan's order but for small pieces, which may go back into a gap of one of the last blocks.
 */

import { ImgstoreError } from '../base/errors.ts';
import { blockSizeBytes } from '../base/limits.ts';
import {
  alignUp,
  chunkMapEntrySizeBytes,
  firstInodeOffsetBytes,
  layoutChunkBased,
  layoutFlatInline,
  layoutFlatPlain,
  slotSizeBytes,
} from './format.ts';
import { inodeSizeBytes } from './inode.ts';
import type { FileShape } from './placement.ts';
import { type InodePlan, mayBeCompact, type PlannedInode } from './plan.ts';

export interface MetadataLayout {
  sizeBytes: number;
  /** 0 if no attribute is shared. */
  xattrBlock: number;
  xattrAreaSizeBytes: number;
  hasChunkedFiles: boolean;
}

/**
 * Sets all that depends on place, from `extended` to `ownBlockCount`, of every inode. `shapeOfFile`
 * is asked once for each file.
 */
export function layOut(
  plan: InodePlan,
  shapeOfFile: (planned: PlannedInode) => FileShape,
): MetadataLayout {
  const space = new Space();
  const xattrAreaSizeBytes = plan.xattrs.place();
  let xattrBlock = 0;
  let hasChunkedFiles = false;
  for (const [i, planned] of plan.inodes.entries()) {
    const shape = planned.inode.kind === 'file' ? shapeOfFile(planned) : undefined;
    if (shape?.kind === 'chunks') hasChunkedFiles = true;
    chooseLayout(space, plan, planned, shape);
    // Behind the root's inode, which must be near the start, and before all other blocks.
    if (i === 0 && xattrAreaSizeBytes > 0) xattrBlock = space.blocksFor(xattrAreaSizeBytes);
    if (planned.ownBlockCount > 0)
      planned.ownBlock = space.blocksFor(planned.ownBlockCount * blockSizeBytes);
  }
  return { sizeBytes: space.sizeBytes, xattrBlock, xattrAreaSizeBytes, hasChunkedFiles };
}

/** Sets all but the own blocks' place. */
function chooseLayout(
  space: Space,
  plan: InodePlan,
  planned: PlannedInode,
  shape: FileShape | undefined,
): void {
  const { inode } = planned;
  planned.extended =
    inode.mtimeSeconds !== plan.epochSeconds ||
    inode.mtimeNanoseconds !== plan.epochNanoseconds ||
    !mayBeCompact(planned);
  planned.xattrBodySizeBytes = plan.xattrs.bodySizeBytes(inode.xattrs);
  const headBytes = headSizeBytes(planned);
  let bodyBytes = 0;
  if (shape?.kind === 'chunks') {
    planned.layout = layoutChunkBased;
    bodyBytes = shape.entryCount * chunkMapEntrySizeBytes;
  } else if (shape?.kind === 'flat' || planned.sizeBytes === 0) {
    planned.layout = layoutFlatPlain;
  } else {
    const tailBytes = planned.sizeBytes % blockSizeBytes;
    const inline = tailBytes > 0 && headBytes + tailBytes <= blockSizeBytes;
    planned.layout = inline ? layoutFlatInline : layoutFlatPlain;
    bodyBytes = inline ? tailBytes : 0;
    planned.ownBlockCount = Math.ceil((planned.sizeBytes - bodyBytes) / blockSizeBytes);
  }
  planned.nid = space.slotsFor(headBytes + bodyBytes) / slotSizeBytes;
}

/** The inode and its attributes: what stands before a chunk map or an inline tail. */
export function headSizeBytes(planned: PlannedInode): number {
  return inodeSizeBytes(planned.extended) + planned.xattrBodySizeBytes;
}

/** Gaps that stay open. More would pack no better, and scatter a directory over more blocks. */
const gapsMax = 16;

interface Gap {
  offsetBytes: number;
  lengthBytes: number;
}

/** Free space of a region that grows at its end. */
class Space {
  /** Oldest first. */
  readonly #gaps: Gap[] = [];
  #endBytes = blockSizeBytes;

  constructor() {
    this.#leave(firstInodeOffsetBytes);
  }

  get sizeBytes(): number {
    return this.#endBytes;
  }

  /** Offset of a piece: in one block if it fits one, else from a block's start on. */
  slotsFor(lengthBytes: number): number {
    const slotsBytes = alignUp(lengthBytes, slotSizeBytes);
    const index = this.#gaps.findIndex(gap => gap.lengthBytes >= slotsBytes);
    if (index < 0 || slotsBytes > blockSizeBytes) {
      const offsetBytes = this.blocksFor(slotsBytes) * blockSizeBytes;
      this.#leave(offsetBytes + slotsBytes);
      return offsetBytes;
    }
    const gap = this.#gaps[index]!;
    const { offsetBytes } = gap;
    gap.offsetBytes += slotsBytes;
    gap.lengthBytes -= slotsBytes;
    if (gap.lengthBytes === 0) this.#gaps.splice(index, 1);
    return offsetBytes;
  }

  /** Number of the first of new blocks at the end. */
  blocksFor(lengthBytes: number): number {
    const block = this.#endBytes / blockSizeBytes;
    this.#endBytes += alignUp(lengthBytes, blockSizeBytes);
    // Nids, block numbers and serials are 32 bits; a nid counts 32 bytes.
    if (this.#endBytes > 2 ** 32 * slotSizeBytes)
      throw new ImgstoreError('LIMIT', 'Cannot write the disk: its metadata has over 128 GiB');
    return block;
  }

  /** Keeps what is free from an offset to the end; drops the smallest gap if there are too many. */
  #leave(offsetBytes: number): void {
    if (offsetBytes === this.#endBytes) return;
    this.#gaps.push({ offsetBytes, lengthBytes: this.#endBytes - offsetBytes });
    if (this.#gaps.length <= gapsMax) return;
    let smallest = 0;
    for (const [i, gap] of this.#gaps.entries())
      if (gap.lengthBytes < this.#gaps[smallest]!.lengthBytes) smallest = i;
    this.#gaps.splice(smallest, 1);
  }
}
