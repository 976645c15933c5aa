/**
 * A tree as an EROFS disk: a metadata region, which is made here, and a data region, which the
 * caller fills with file contents at the offsets that it said. docs/format/disk.md describes it.
 *
 * The same tree and placements give the same bytes: no clock, no randomness. Beside the tree and
 * one small record an inode, one window of the region is in memory at a time.
 */

import { assert } from '../base/assert.ts';
import { ImgstoreError } from '../base/errors.ts';
import { blockSizeBytes, diskSizeMaxBytes } from '../base/limits.ts';
import type { FileContent, Tree } from '../tree/tree.ts';
import { nullBlock } from './format.ts';
import { layOut } from './layout.ts';
import { MetadataWriter } from './metadata.ts';
import { type FileShape, type Placement, shapeOf } from './placement.ts';
import { type PlannedInode, planInodes } from './plan.ts';

export { type Extent, holeGranularityBytes, type Placement } from './placement.ts';

export interface DiskPlan {
  /** Where the data region begins: a multiple of blockSizeBytes. */
  readonly metadataSizeBytes: number;
  readonly diskSizeBytes: number;
  readonly inodeCount: number;
  /** Sum of the sizes of the regular files, each inode counted once. */
  readonly contentBytes: number;
  /** The metadata region in order, in buffers of at most 1 MiB that belong to the caller. */
  metadata(): Iterable<Buffer>;
}

/**
 * Plans the disk. `placementOf` is asked several times for a file, now and while metadata() runs,
 * and must give the same answer; so must the tree. `dataSizeBytes` is a multiple of blockSizeBytes.
 * LIMIT or UNSUPPORTED, with the path, for what no disk can hold.
 */
export function planDisk(
  tree: Tree,
  placementOf: (content: FileContent) => Placement,
  dataSizeBytes: number,
): DiskPlan {
  assert(dataSizeBytes % blockSizeBytes === 0, 'the data region is whole blocks');
  const plan = planInodes(tree);
  const shapeOfFile = (planned: PlannedInode): FileShape => {
    assert(planned.inode.kind === 'file', 'only regular files have contents');
    const placement = placementOf(planned.inode.content);
    return shapeOf(placement, planned.sizeBytes, dataSizeBytes);
  };
  const layout = layOut(plan, shapeOfFile);
  const diskSizeBytes = layout.sizeBytes + dataSizeBytes;
  if (diskSizeBytes / blockSizeBytes >= nullBlock) {
    throw new ImgstoreError(
      'LIMIT',
      `Cannot write the disk: it would have ${diskSizeBytes} bytes (below ${diskSizeMaxBytes})`,
      { hint: 'Remove files from the image.' },
    );
  }
  const writer = new MetadataWriter(plan, layout, shapeOfFile, diskSizeBytes);
  return {
    metadataSizeBytes: layout.sizeBytes,
    diskSizeBytes,
    inodeCount: plan.inodes.length,
    contentBytes: plan.contentBytes,
    metadata: () => writer.metadata(),
  };
}
