/** A disk in a file of its own, and everyone who has a say about it. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkDisk } from '../../src/erofs/check.ts';
import type { DiskPlan } from '../../src/erofs/writer.ts';
import { FileSource, type PlacedTree, writeDiskFile } from './disk-file.ts';
import { assertDiskShows, fsck } from './disk-listing.ts';

export interface WrittenDisk {
  path: string;
  source: FileSource;
  plan: DiskPlan;
}

/** Writes a tree's disk to a temporary file that is gone when `work` is done. */
export async function withDisk<V>(
  placed: PlacedTree,
  work: (disk: WrittenDisk) => V | Promise<V>,
): Promise<V> {
  const dir = mkdtempSync(join(tmpdir(), 'imgstore-disk-'));
  try {
    const path = join(dir, 'disk');
    const plan = writeDiskFile(path, placed);
    assert.equal(statSync(path).size, plan.diskSizeBytes);
    using source = new FileSource(path, plan.diskSizeBytes);
    return await work({ path, source, plan });
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** Our own check, fsck.erofs, and the tree against what reader and kernel show. */
export function judge(placed: PlacedTree): Promise<DiskPlan> {
  return withDisk(placed, async ({ path, source, plan }) => {
    await assertSound({ path, source, plan }, { readAll: true });
    await assertDiskShows({ path, source }, placed);
    return plan;
  });
}

/** Our own check and fsck.erofs. */
export async function assertSound(
  { path, source, plan }: WrittenDisk,
  options: { readAll: boolean },
): Promise<void> {
  const summary = await checkDisk(source);
  assert.equal(summary.inodeCount, plan.inodeCount);
  assert.equal(summary.contentBytes, plan.contentBytes);
  fsck(path, { read: options.readAll });
}
