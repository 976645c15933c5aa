/**
 * One file system as a list of what can be said of each path, from three sides: the tree that was
 * meant, the disk as our reader sees it, the disk as the kernel shows it.
 */

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  closeSync,
  lstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ByteString, byteString } from '../../src/base/byte-string.ts';
import { sha256Hex } from '../../src/base/digest.ts';
import { MiB } from '../../src/base/limits.ts';
import { type DiskInode, DiskReader } from '../../src/erofs/reader.ts';
import type { DiskSource } from '../../src/erofs/source.ts';
import { walkDisk } from '../../src/erofs/walk.ts';
import { type FileContent, type Inode, sortedEntries, type Tree } from '../../src/tree/tree.ts';
import type { PlacedTree } from './disk-file.ts';

export interface Description {
  kind: string;
  mode: number;
  uid: number;
  gid: number;
  /** SECONDS.NANOSECONDS, seconds rounded down. */
  mtime: string;
  linkCount: number;
  /** The first path of the same inode. */
  inode: string;
  xattrs: [name: string, hexValue: string][];
  target?: string;
  device?: string;
  sizeBytes?: number;
  /** SHA-256 of the bytes; of a large sparse file, of the bytes around its runs. */
  content?: string;
}

/** Paths as byte strings, in the order of a walk. */
export type Listing = Map<string, Description>;

/** Fails with the first path that differs. */
export function assertSameListing(actual: Listing, expected: Listing, what: string): void {
  for (const [path, description] of expected)
    assert.deepEqual(actual.get(path), description, `${what}: ${JSON.stringify(path)}`);
  assert.deepEqual([...actual.keys()], [...expected.keys()], `${what}: paths and their order`);
}

/** Fails unless reader and kernel show the tree, each in all that a listing says. */
export async function assertDiskShows(
  disk: { path: string; source: DiskSource },
  placed: PlacedTree,
): Promise<void> {
  const expected = listTree(placed);
  const contents = filesByPath(placed.tree);
  assertSameListing(await listDisk(disk.source, contents), expected, 'the reader');
  withMounted(disk.path, dir => assertSameListing(listMounted(dir, contents), expected, 'Linux'));
}

/** Mounts a disk from a file; whatever `work` does, nothing stays mounted. */
export function withMounted(diskPath: string, work: (dir: string) => void): void {
  const dir = mkdtempSync(join(tmpdir(), 'imgstore-mount-'));
  try {
    execFileSync('mount', ['-t', 'erofs', '-o', 'ro,loop', diskPath, dir], { stdio: 'pipe' });
    try {
      work(dir);
    } finally {
      execFileSync('umount', ['--lazy', dir], { stdio: 'pipe' });
    }
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** Byte ranges that stand for a file's content: all of it, or what lies around its runs. */
function rangesOf(content: FileContent): [start: number, end: number][] {
  if (content.sizeBytes <= 64 * MiB || content.runs === undefined) return [[0, content.sizeBytes]];
  const around = (at: number): [number, number] => [
    Math.max(0, at - 100),
    Math.min(content.sizeBytes, at + 100),
  ];
  const edges = content.runs.flatMap(run => [run.offsetBytes, run.offsetBytes + run.lengthBytes]);
  return [0, ...edges, content.sizeBytes].map(around);
}

function filesByPath(tree: Tree): Map<string, FileContent> {
  const files = new Map<string, FileContent>();
  for (const [path, inode] of pathsOf(tree))
    if (inode.kind === 'file') files.set(path, inode.content);
  return files;
}

function* pathsOf(tree: Tree): Generator<[string, Inode]> {
  yield ['/', tree.root];
  const open: [string, [ByteString, Inode][]][] = [['', sortedEntries(tree.root).reverse()]];
  for (let level = open.at(-1); level !== undefined; level = open.at(-1)) {
    const entry = level[1].pop();
    if (entry === undefined) {
      open.pop();
      continue;
    }
    const path = `${level[0]}/${entry[0]}`;
    yield [path, entry[1]];
    if (entry[1].kind === 'directory') open.push([path, sortedEntries(entry[1]).reverse()]);
  }
}

export function listTree({ tree, contents }: PlacedTree): Listing {
  const listing: Listing = new Map();
  const firstPaths = new Map<Inode, string>();
  const linkCounts = new Map<Inode, number>();
  for (const [, inode] of pathsOf(tree)) linkCounts.set(inode, (linkCounts.get(inode) ?? 0) + 1);
  for (const [path, inode] of pathsOf(tree)) {
    if (!firstPaths.has(inode)) firstPaths.set(inode, path);
    const description: Description = {
      kind: inode.kind,
      mode: inode.mode,
      uid: inode.uid,
      gid: inode.gid,
      mtime: `${inode.mtimeSeconds}.${inode.mtimeNanoseconds}`,
      linkCount: linkCounts.get(inode)!,
      inode: firstPaths.get(inode)!,
      xattrs: hexXattrs(inode.xattrs),
    };
    if (inode.kind === 'directory') {
      const children = [...inode.entries.values()];
      description.linkCount = 2 + children.filter(child => child.kind === 'directory').length;
    } else if (inode.kind === 'file') {
      description.sizeBytes = inode.content.sizeBytes;
      const data = contents.get(inode.content.ordinal)!;
      description.content = digestOf(inode.content, (target, start) =>
        copyContent(inode.content, data, target, start),
      );
    } else if (inode.kind === 'symlink') {
      description.target = inode.target;
    } else if (inode.kind !== 'fifo') {
      description.device = `${inode.major}:${inode.minor}`;
    }
    listing.set(path, description);
  }
  return listing;
}

function digestOf(content: FileContent, read: (target: Buffer, start: number) => void): string {
  const parts = rangesOf(content).map(([start, end]) => {
    const bytes = Buffer.alloc(end - start);
    read(bytes, start);
    return bytes;
  });
  return sha256Hex(Buffer.concat(parts));
}

function copyContent(content: FileContent, data: Buffer, target: Buffer, start: number): void {
  let taken = 0;
  const whole = [{ offsetBytes: 0, lengthBytes: content.sizeBytes }];
  for (const { offsetBytes, lengthBytes } of content.runs ?? whole) {
    const from = Math.max(start, offsetBytes);
    const to = Math.min(start + target.length, offsetBytes + lengthBytes);
    const skipped = taken - offsetBytes;
    if (from < to) data.copy(target, from - start, skipped + from, skipped + to);
    taken += lengthBytes;
  }
}

function hexXattrs(xattrs: ReadonlyMap<ByteString, Uint8Array>): [string, string][] {
  return [...xattrs]
    .map(([name, value]): [string, string] => [name, Buffer.from(value).toString('hex')])
    .sort(([a], [b]) => (a < b ? -1 : 1));
}

export async function listDisk(
  source: DiskSource,
  contents: ReadonlyMap<string, FileContent> = new Map(),
): Promise<Listing> {
  const listing: Listing = new Map();
  const firstPaths = new Map<number, string>();
  const reader = await DiskReader.open(source);
  for await (const { path, inode } of walkDisk(reader)) {
    if (!firstPaths.has(inode.nid)) firstPaths.set(inode.nid, path);
    const description: Description = {
      kind: inode.kind,
      mode: inode.mode,
      uid: inode.uid,
      gid: inode.gid,
      mtime: `${inode.mtimeSeconds}.${inode.mtimeNanoseconds}`,
      linkCount: inode.linkCount,
      inode: firstPaths.get(inode.nid)!,
      xattrs: hexXattrs(await reader.xattrs(inode)),
    };
    if (inode.kind === 'symlink') description.target = await reader.readlink(inode);
    if (inode.device !== undefined)
      description.device = `${inode.device.major}:${inode.device.minor}`;
    if (inode.kind === 'file') {
      const { sizeBytes } = inode;
      description.sizeBytes = sizeBytes;
      const content = contents.get(path) ?? { ordinal: 0, sizeBytes, runs: undefined };
      description.content = await digestOnDisk(reader, source, inode, content);
    }
    listing.set(path, description);
  }
  return listing;
}

async function digestOnDisk(
  reader: DiskReader,
  source: DiskSource,
  file: DiskInode,
  content: FileContent,
): Promise<string> {
  const ranges = rangesOf(content).map(([start, end]) => ({
    start,
    end,
    bytes: Buffer.alloc(end - start),
  }));
  let covered = 0;
  for await (const { fileOffsetBytes, lengthBytes, diskOffsetBytes } of reader.extents(file)) {
    assert.equal(fileOffsetBytes, covered, 'extents follow each other');
    covered += lengthBytes;
    if (diskOffsetBytes === undefined) continue;
    for (const { start, end, bytes } of ranges) {
      const from = Math.max(start, fileOffsetBytes);
      const to = Math.min(end, covered);
      if (from >= to) continue;
      const part = await source.read(diskOffsetBytes + from - fileOffsetBytes, to - from);
      assert.equal(part.length, to - from);
      part.copy(bytes, from - start);
    }
  }
  assert.equal(covered, file.sizeBytes, 'extents cover the file');
  return sha256Hex(Buffer.concat(ranges.map(({ bytes }) => bytes)));
}

const kindsOfMode: ReadonlyMap<number, string> = new Map([
  [0o100000, 'file'],
  [0o040000, 'directory'],
  [0o020000, 'character-device'],
  [0o060000, 'block-device'],
  [0o010000, 'fifo'],
  [0o120000, 'symlink'],
  [0o140000, 'socket'],
]);

/** Paths that are too long for a system call are not reached: see the tests of deep trees. */
export function listMounted(
  dir: string,
  contents: ReadonlyMap<string, FileContent> = new Map(),
): Listing {
  const listing: Listing = new Map();
  const firstPaths = new Map<bigint, string>();
  const xattrs = mountedXattrs(dir);
  const top = Buffer.from(dir);
  const open: [string, ByteString[]][] = [['', ['.' as ByteString]]];
  for (let level = open.at(-1); level !== undefined; level = open.at(-1)) {
    const name = level[1].pop();
    if (name === undefined) {
      open.pop();
      continue;
    }
    const path = level[0] === '' && name === '.' ? '/' : `${level[0]}/${name}`;
    const full = Buffer.concat([top, Buffer.from(path, 'latin1')]);
    const stat = lstatSync(full, { bigint: true });
    if (!firstPaths.has(stat.ino)) firstPaths.set(stat.ino, path);
    const nanoseconds = ((stat.mtimeNs % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
    const description: Description = {
      kind: kindsOfMode.get(Number(stat.mode) & 0o170000)!,
      mode: Number(stat.mode) & 0o7777,
      uid: Number(stat.uid),
      gid: Number(stat.gid),
      mtime: `${(stat.mtimeNs - nanoseconds) / 1_000_000_000n}.${nanoseconds}`,
      linkCount: Number(stat.nlink),
      inode: firstPaths.get(stat.ino)!,
      xattrs: xattrs.get(path) ?? [],
    };
    if (description.kind === 'directory') {
      const names = readdirSync(full, { encoding: 'buffer' }).map(byteString);
      open.push([path === '/' ? '' : path, names.sort().reverse()]);
    } else if (description.kind === 'symlink') {
      description.target = byteString(readlinkSync(full, { encoding: 'buffer' }));
    } else if (description.kind === 'file') {
      description.sizeBytes = Number(stat.size);
      const { sizeBytes } = description;
      const content = contents.get(path) ?? { ordinal: 0, sizeBytes, runs: undefined };
      description.content = digestOfFile(full, content);
    } else if (description.kind.endsWith('-device')) {
      const { rdev } = stat;
      const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xfffff000n);
      description.device = `${major}:${(rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n)}`;
    }
    listing.set(path, description);
  }
  return listing;
}

/** By path, as getfattr(1) tells: blocks of `# file: PATH` and `NAME=0xHEX`, quoted in octal. */
function mountedXattrs(dir: string): Map<string, [string, string][]> {
  const args = '--recursive --physical --no-dereference --dump --match=- --encoding=hex'.split(' ');
  const output = execFileSync('getfattr', [...args, '--absolute-names', dir], {
    maxBuffer: 256 * MiB,
    stdio: 'pipe',
  });
  const found = new Map<string, [string, string][]>();
  let xattrs: [string, string][] = [];
  for (const line of output.toString('latin1').split('\n')) {
    if (line.startsWith('# file: ')) {
      xattrs = [];
      found.set(unquoted(line.slice('# file: '.length + dir.length)) || '/', xattrs);
    } else if (line !== '') {
      const [name, value] = line.split('=');
      xattrs.push([unquoted(name!), value?.slice(2) ?? '']);
    }
  }
  for (const list of found.values()) list.sort(([a], [b]) => (a < b ? -1 : 1));
  return found;
}

function unquoted(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(parseInt(octal, 8)));
}

function digestOfFile(path: Buffer, content: FileContent): string {
  const fd = openSync(path, 'r');
  try {
    return digestOf(content, (target, start) => {
      for (let at = 0; at < target.length; ) {
        const count = readSync(fd, target, at, Math.min(8 * MiB, target.length - at), start + at);
        assert.ok(count > 0, 'a file is as long as it says');
        at += count;
      }
    });
  } finally {
    closeSync(fd);
  }
}

/** A byte string as a path of the kernel's. */

/** Runs fsck.erofs, the format's own checker; `read` makes it read all data too. */
export function fsck(diskPath: string, options: { read: boolean }): void {
  const read = options.read ? ['--extract'] : [];
  // It descends by recursion, and needs more than the usual stack for our deepest trees.
  const args = ['--stack=268435456', 'fsck.erofs', ...read, diskPath];
  const { status, stdout, stderr } = spawnSync('prlimit', args, { encoding: 'utf8' });
  assert.equal(status, 0, `fsck.erofs: ${stdout}${stderr}`);
  assert.equal(stderr, '', 'fsck.erofs has nothing to say');
}
