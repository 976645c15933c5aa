/**
 * A tree as the list of inodes that a disk gets, in the order in which they are laid out. A
 * directory is followed by its children that are no directories; names are in memcmp order. The
 * directories of the first levels come breadth first, since every start walks through these; below
 * them each subtree comes depth first, since a program keeps to its own. docs/format/disk.md has
 * the figures.
 *
 * Invariants: every inode stands here once, however many names it has; the root is the first.
 */

import { assert } from '../base/assert.ts';
import { type ByteString, printable } from '../base/byte-string.ts';
import { ImgstoreError } from '../base/errors.ts';
import {
  nameLengthMaxBytes,
  symlinkTargetMaxBytes,
  treeDepthMax,
  treeEntriesMax,
} from '../base/limits.ts';
import type { Directory, Inode, Tree } from '../tree/tree.ts';
import { directorySizeBytes } from './directory.ts';
import { fitsCompact, type Layout } from './inode.ts';
import { SharedXattrs } from './shared-xattrs.ts';

/** One inode of the disk: from the walk first, its place from the layout later. */
export class PlannedInode {
  readonly inode: Inode;
  /** The directory of its first name, and that name; the root is its own parent. */
  readonly parent: PlannedInode;
  readonly name: ByteString;
  sizeBytes: number;
  linkCount = 0;
  /** Of a directory: its sorted names with `.` and `..`, and the inode behind each. */
  names: readonly ByteString[] = [];
  children: readonly PlannedInode[] = [];

  extended = true;
  layout: Layout = 0;
  xattrBodySizeBytes = 0;
  nid = 0;
  /** First block of its own in the metadata region (full directory blocks, …), and how many. */
  ownBlock = 0;
  ownBlockCount = 0;

  constructor(inode: Inode, parent: PlannedInode | undefined, name: ByteString) {
    this.inode = inode;
    this.parent = parent ?? this;
    this.name = name;
    this.sizeBytes = sizeOf(inode);
  }
}

function sizeOf(inode: Inode): number {
  return inode.kind === 'file'
    ? inode.content.sizeBytes
    : inode.kind === 'symlink'
      ? inode.target.length
      : 0;
}

export interface InodePlan {
  inodes: readonly PlannedInode[];
  xattrs: SharedXattrs;
  epochSeconds: number;
  epochNanoseconds: number;
  /** Sum of the sizes of the regular files. */
  contentBytes: number;
}

/**
 * Walks the tree. LIMIT: more entries, depth or bytes of a name than limits.ts allows; UNSUPPORTED:
 * an attribute that no disk can hold. Both name the path.
 */
export function planInodes(tree: Tree): InodePlan {
  const walk = new Walk();
  walk.run(tree.root);
  const { inodes, xattrs } = walk;
  let contentBytes = 0;
  for (const planned of inodes)
    if (planned.inode.kind === 'file') contentBytes += planned.sizeBytes;
  return { inodes, xattrs, contentBytes, ...mostFrequentTime(inodes) };
}

const dots = ['.', '..'] as ByteString[];

/** `/`, `/usr`, `/usr/lib`, `/usr/lib/x86_64-linux-gnu`. */
const levelsBreadthFirst = 4;

class Walk {
  readonly inodes: PlannedInode[] = [];
  readonly xattrs = new SharedXattrs();
  readonly #known = new Map<Inode, PlannedInode>();
  #entries = 0;

  run(root: Directory): void {
    let level = [this.#add(root, undefined, '' as ByteString)];
    let depth = 0;
    for (; depth < levelsBreadthFirst; depth++) {
      const childDepth = depth + 1;
      level = level.flatMap(directory => this.#enter(directory, childDepth));
    }
    // The last is taken first.
    const open = level.reverse().map(directory => ({ directory, depth }));
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      const childDepth = next.depth + 1;
      const subdirectories = this.#enter(next.directory, childDepth);
      for (const directory of subdirectories.reverse()) open.push({ directory, depth: childDepth });
    }
  }

  #add(inode: Inode, parent: PlannedInode | undefined, name: ByteString): PlannedInode {
    const planned = new PlannedInode(inode, parent, name);
    this.#known.set(inode, planned);
    checkInode(planned);
    return planned;
  }

  #enter(directory: PlannedInode, childDepth: number): PlannedInode[] {
    assert(directory.inode.kind === 'directory', 'only directories are entered');
    this.#list(directory);
    const { entries } = directory.inode;
    assert(!dots.some(name => entries.has(name)), 'the dots are ours to write');
    this.#entries += entries.size;
    if (this.#entries > treeEntriesMax)
      throw limit(directory, `the tree has more than ${treeEntriesMax} entries`);
    if (childDepth > treeDepthMax && entries.size > 0)
      throw limit(directory, `its entries are more than ${treeDepthMax} levels deep`);
    const subdirectories: PlannedInode[] = [];
    const names = [...entries.keys(), ...dots].sort();
    const children: PlannedInode[] = [];
    for (const name of names) {
      if (name === '.' || name === '..') {
        children.push(name === '.' ? directory : directory.parent);
        continue;
      }
      const inode = entries.get(name)!;
      const known = this.#known.get(inode);
      assert(known?.inode.kind !== 'directory', 'a directory is reached by one path');
      const child = known ?? this.#add(inode, directory, name);
      checkName(child, name);
      child.linkCount++;
      if (inode.kind === 'directory') subdirectories.push(child);
      else if (known === undefined) this.#list(child);
      children.push(child);
    }
    directory.names = names;
    directory.children = children;
    directory.sizeBytes = directorySizeBytes(names);
    directory.linkCount = 2 + subdirectories.length;
    return subdirectories;
  }

  #list(planned: PlannedInode): void {
    this.inodes.push(planned);
    if (planned.inode.xattrs.size > 0)
      this.xattrs.count(planned.inode.xattrs, () => pathOf(planned));
  }
}

function checkName(planned: PlannedInode, name: ByteString): void {
  if (name.length > nameLengthMaxBytes)
    throw limit(planned, `its name has ${name.length} bytes (at most ${nameLengthMaxBytes})`);
  assert(name !== '' && !name.includes('/') && !name.includes('\0'), 'a name can be one');
}

function checkInode(planned: PlannedInode): void {
  const { inode } = planned;
  assert(inode.mode >= 0 && inode.mode <= 0o7777, 'a mode is permission bits');
  assert(isUint32(inode.uid) && isUint32(inode.gid), 'an id has 32 bits');
  assert(Number.isSafeInteger(inode.mtimeSeconds), 'a time is a safe integer');
  assert(inode.mtimeNanoseconds >= 0 && inode.mtimeNanoseconds < 1e9, 'nanoseconds are below 1e9');
  if (inode.kind !== 'symlink') return;
  const { length } = inode.target;
  if (length > symlinkTargetMaxBytes)
    throw limit(planned, `its target has ${length} bytes (at most ${symlinkTargetMaxBytes})`);
  assert(length > 0 && !inode.target.includes('\0'), 'a symlink has a target');
}

function isUint32(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= 0xffffffff;
}

/** For messages. */
export function pathOf(planned: PlannedInode): string {
  const names: ByteString[] = [];
  for (let at = planned; at.parent !== at; at = at.parent) names.push(at.name);
  const path = `/${names.reverse().map(printable).join('/')}`;
  return path.length <= 300 ? path : `${path.slice(0, 150)}…${path.slice(-150)}`;
}

function limit(planned: PlannedInode, state: string): ImgstoreError {
  return new ImgstoreError('LIMIT', `Cannot write ${pathOf(planned)}: ${state}`);
}

/**
 * The time that most inodes share becomes the time of all compact ones; of several, the earliest.
 * Images built with SOURCE_DATE_EPOCH clamp most times to one, and so shrink by half.
 */
function mostFrequentTime(inodes: readonly PlannedInode[]): {
  epochSeconds: number;
  epochNanoseconds: number;
} {
  const counts = new Map<number | string, number>();
  let best = { epochSeconds: 0, epochNanoseconds: 0 };
  let bestCount = 0;
  for (const planned of inodes) {
    if (!mayBeCompact(planned)) continue;
    const { mtimeSeconds: seconds, mtimeNanoseconds: nanoseconds } = planned.inode;
    const key = nanoseconds === 0 ? seconds : `${seconds}.${nanoseconds}`;
    const count = (counts.get(key) ?? 0) + 1;
    counts.set(key, count);
    const isEarlier =
      seconds < best.epochSeconds ||
      (seconds === best.epochSeconds && nanoseconds < best.epochNanoseconds);
    if (count > bestCount || (count === bestCount && isEarlier)) {
      best = { epochSeconds: seconds, epochNanoseconds: nanoseconds };
      bestCount = count;
    }
  }
  return best;
}

export function mayBeCompact(planned: PlannedInode): boolean {
  const { sizeBytes, linkCount, inode } = planned;
  return fitsCompact({ sizeBytes, linkCount, uid: inode.uid, gid: inode.gid });
}
