/**
 * Every name of a disk, once: depth first, names of a directory in memcmp order. Hostile disks end
 * it with an ImgstoreError that names the path; no disk makes it run for ever. Memory: one block of
 * entries for each level, and the nids of the directories that were seen.
 */

import { type ByteString, printable } from '../base/byte-string.ts';
import { ImgstoreError } from '../base/errors.ts';
import { treeDepthMax, treeEntriesMax } from '../base/limits.ts';
import type { DirectoryEntry } from './directory.ts';
import type { DiskInode, DiskReader } from './reader.ts';

export interface WalkEntry {
  /** `/` for the root, else `/a/b`. */
  path: ByteString;
  inode: DiskInode;
  /** Of the directory that holds the name; the root is its own. */
  parentNid: number;
}

interface Level {
  path: ByteString;
  nid: number;
  parentNid: number;
  blocks: AsyncGenerator<DirectoryEntry[]>;
  entries: DirectoryEntry[];
  next: number;
  dotsSeen: number;
}

/**
 * The root first, then what is below it; an inode with several names comes with each of them.
 * CORRUPT: a directory that has two names or holds itself, wrong `.` or `..`, an entry whose type
 * is not its inode's, and whatever DiskReader finds. LIMIT: more entries or levels than limits.ts has.
 */
export async function* walkDisk(reader: DiskReader): AsyncGenerator<WalkEntry> {
  const root = await reader.root();
  yield { path: '/' as ByteString, inode: root, parentNid: root.nid };
  const directories = new Set([root.nid]);
  const levels: Level[] = [levelOf(reader, root, '' as ByteString, root.nid)];
  let entryCount = 0;
  for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
    const entry = await nextEntry(level);
    if (entry === undefined) {
      levels.pop();
      continue;
    }
    const path = `${level.path}/${entry.name}` as ByteString;
    if (++entryCount > treeEntriesMax)
      throw new ImgstoreError('LIMIT', `Cannot walk the disk: over ${treeEntriesMax} entries`);
    const inode = await atPath(path, () => reader.inode(entry.nid));
    if (entry.kind !== undefined && entry.kind !== inode.kind)
      throw corrupt(path, `its directory says ${entry.kind}, its inode ${inode.kind}`);
    if (inode.kind === 'directory') {
      if (directories.has(inode.nid)) throw corrupt(path, 'its directory has another path too');
      directories.add(inode.nid);
      if (levels.length > treeDepthMax)
        throw new ImgstoreError('LIMIT', `Cannot walk ${shown(path)}: over ${treeDepthMax} levels`);
      levels.push(levelOf(reader, inode, path, level.nid));
    }
    yield { path, inode, parentNid: level.nid };
  }
}

function levelOf(
  reader: DiskReader,
  directory: DiskInode,
  path: ByteString,
  parentNid: number,
): Level {
  const blocks = reader.entryBlocks(directory);
  return { path, nid: directory.nid, parentNid, blocks, entries: [], next: 0, dotsSeen: 0 };
}

/** The next entry but for the dots, which are checked; undefined at the directory's end. */
async function nextEntry(level: Level): Promise<DirectoryEntry | undefined> {
  for (;;) {
    if (level.next === level.entries.length) {
      const block = await atPath(level.path, () => level.blocks.next());
      if (block.done) {
        if (level.dotsSeen < 2) throw corrupt(level.path, 'it has no entry for itself or above');
        return undefined;
      }
      level.entries = block.value;
      level.next = 0;
    }
    const entry = level.entries[level.next++]!;
    if (entry.name !== '.' && entry.name !== '..') return entry;
    const expectedNid = entry.name === '.' ? level.nid : level.parentNid;
    if (entry.nid !== expectedNid || (entry.kind !== undefined && entry.kind !== 'directory'))
      throw corrupt(level.path, `its entry ${entry.name} leads to inode ${entry.nid}`);
    level.dotsSeen++;
  }
}

/** Names the path in what goes wrong with the disk; faults of the source are passed on. */
export async function atPath<V>(path: ByteString, work: () => Promise<V>): Promise<V> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ImgstoreError)) throw error;
    if (error.code !== 'CORRUPT' && error.code !== 'UNSUPPORTED' && error.code !== 'LIMIT')
      throw error;
    const message = error.message.replace(/^Cannot/, 'cannot');
    const hint = error.hint === undefined ? {} : { hint: error.hint };
    throw new ImgstoreError(error.code, `Cannot walk ${shown(path)}: ${message}`, {
      cause: error,
      ...hint,
    });
  }
}

function corrupt(path: ByteString, state: string): ImgstoreError {
  return new ImgstoreError('CORRUPT', `Cannot walk ${shown(path)}: ${state}`);
}

/** For messages: both ends of a long one. */
export function shown(path: ByteString): string {
  const text = printable(path === '' ? ('/' as ByteString) : path);
  return text.length <= 300 ? text : `${text.slice(0, 150)}…${text.slice(-150)}`;
}
