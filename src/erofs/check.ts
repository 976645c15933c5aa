/** Whether a disk holds together: what a kernel relies on, and what it never looks at. */

import type { ByteString } from '../base/byte-string.ts';
import { ImgstoreError } from '../base/errors.ts';
import { type DiskInode, DiskReader } from './reader.ts';
import type { DiskSource } from './source.ts';
import { atPath, shown, walkDisk } from './walk.ts';

export interface DiskSummary {
  inodeCount: number;
  directoryCount: number;
  /** Sum of the sizes of the regular files, each inode counted once. */
  contentBytes: number;
}

/** Names of an inode that has, or should have, another number of them than one. */
interface Links {
  path: ByteString;
  inode: DiskInode;
  found: number;
}

/**
 * Checks all of the metadata: superblock, every inode, entries sorted and leading to inodes of
 * their type, `.` and `..`, link counts, attributes, symlink targets, file extents within the disk, no
 * directory reached twice, the count of inodes. File contents are not read. The first fault is
 * thrown: CORRUPT, UNSUPPORTED or LIMIT with path and offset, or the source's own.
 */
export async function checkDisk(
  source: DiskSource,
  options: { signal?: AbortSignal } = {},
): Promise<DiskSummary> {
  const reader = await DiskReader.open(source);
  const seen = new Set<number>();
  const links = new Map<number, Links>();
  const summary: DiskSummary = { inodeCount: 0, directoryCount: 0, contentBytes: 0 };
  // Inodes do not overlap; if they do, checking them all may take the square of the disk's size.
  let unclaimedBytes = source.sizeBytes;
  for await (const { path, inode, parentNid } of walkDisk(reader)) {
    options.signal?.throwIfAborted();
    const isDirectory = inode.kind === 'directory';
    // Each directory is a name of the one above, by its `..`; the root's is its own and not one.
    if (isDirectory && path !== '/') links.get(parentNid)!.found++;
    if (seen.has(inode.nid)) {
      const known = links.get(inode.nid);
      if (known === undefined) throw wrongLinks(path, inode, 2);
      known.found++;
      continue;
    }
    seen.add(inode.nid);
    if (isDirectory || inode.linkCount !== 1)
      links.set(inode.nid, { path, inode, found: isDirectory ? 2 : 1 });
    unclaimedBytes -= inode.footprintBytes;
    if (unclaimedBytes < 0)
      throw new ImgstoreError('CORRUPT', `Cannot walk ${shown(path)}: inodes overlap`);
    await atPath(path, () => checkInode(reader, inode));
    summary.inodeCount++;
    if (isDirectory) summary.directoryCount++;
    if (inode.kind === 'file') summary.contentBytes += inode.sizeBytes;
  }
  for (const { path, inode, found } of links.values())
    if (found !== inode.linkCount) throw wrongLinks(path, inode, found);
  if (summary.inodeCount !== reader.superblock.inodeCount) {
    throw new ImgstoreError(
      'CORRUPT',
      `Cannot accept the disk: it has ${summary.inodeCount} inodes, ` +
        `its superblock says ${reader.superblock.inodeCount}`,
    );
  }
  return summary;
}

async function checkInode(reader: DiskReader, inode: DiskInode): Promise<void> {
  await reader.xattrs(inode);
  if (inode.kind === 'symlink') await reader.readlink(inode);
  if (inode.kind !== 'file') return;
  // Each is checked when it is made; that they cover the file follows from how they are made.
  for await (const _ of reader.extents(inode));
}

function wrongLinks(path: ByteString, inode: DiskInode, found: number): ImgstoreError {
  return new ImgstoreError(
    'CORRUPT',
    `Cannot walk ${shown(path)}: inode ${inode.nid} at byte ${inode.offsetBytes} has ${found} ` +
      `or more names and says ${inode.linkCount}`,
  );
}
