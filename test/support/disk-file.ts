/**
 * Trees made by hand, and disks of them as files: what the push pipeline does, in its simplest
 * form. Contents are placed one after another; equal ones share their place.
 */

import { closeSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { type ByteString, byteStringOfText } from '../../src/base/byte-string.ts';
import { sha256Hex } from '../../src/base/digest.ts';
import { blockSizeBytes, inlineFileSizeMaxBytes } from '../../src/base/limits.ts';
import type { DiskSource } from '../../src/erofs/source.ts';
import {
  type DiskPlan,
  type Extent,
  holeGranularityBytes,
  type Placement,
  planDisk,
} from '../../src/erofs/writer.ts';
import type {
  Attributes,
  DataRun,
  Device,
  Directory,
  Fifo,
  FileContent,
  Inode,
  RegularFile,
  Symlink,
  Tree,
} from '../../src/tree/tree.ts';

export type Given = Partial<Attributes>;

const ordinary = { uid: 0, gid: 0, mtimeSeconds: 1_700_000_000, mtimeNanoseconds: 0 };

/** Makes inodes with ordinary attributes where none are given, and keeps the contents of files. */
export class TreeMaker {
  /** By ordinal: the bytes of the content's data runs, without holes. */
  readonly contents = new Map<number, Buffer>();

  directory(entries: Record<string, Inode> = {}, given: Given = {}): Directory {
    const named = Object.entries(entries).map(([name, inode]): [ByteString, Inode] => [
      byteStringOfText(name),
      inode,
    ]);
    return { kind: 'directory', entries: new Map(named), ...attributes(0o755, given) };
  }

  file(bytes: Buffer | string, given: Given = {}): RegularFile {
    const data = Buffer.from(bytes as string);
    return this.#file({ sizeBytes: data.length, runs: undefined, data, given });
  }

  /** `data` holds the bytes of the runs, one after another. */
  sparse(
    sizeBytes: number,
    runs: readonly DataRun[],
    data: Buffer,
    given: Given = {},
  ): RegularFile {
    return this.#file({ sizeBytes, runs, data, given });
  }

  symlink(target: string, given: Given = {}): Symlink {
    return { kind: 'symlink', target: byteStringOfText(target), ...attributes(0o777, given) };
  }

  device(kind: Device['kind'], major: number, minor: number, given: Given = {}): Device {
    return { kind, major, minor, ...attributes(0o660, given) };
  }

  fifo(given: Given = {}): Fifo {
    return { kind: 'fifo', ...attributes(0o644, given) };
  }

  #file(file: {
    sizeBytes: number;
    runs: readonly DataRun[] | undefined;
    data: Buffer;
    given: Given;
  }): RegularFile {
    const ordinal = this.contents.size;
    this.contents.set(ordinal, file.data);
    const content: FileContent = { ordinal, sizeBytes: file.sizeBytes, runs: file.runs };
    return { kind: 'file', content, ...attributes(0o644, file.given) };
  }
}

function attributes(mode: number, given: Given): Attributes {
  return { mode, xattrs: new Map(), ...ordinary, ...given };
}

export interface PlacedTree {
  tree: Tree;
  contents: ReadonlyMap<number, Buffer>;
}

/** Writes the disk of a tree to a new file. */
export function writeDiskFile(path: string, { tree, contents }: PlacedTree): DiskPlan {
  const region = new DataRegion(contents);
  for (const file of filesOf(tree)) region.add(file.content);
  const plan = planDisk(tree, content => region.placementOf(content), region.sizeBytes);
  const fd = openSync(path, 'wx');
  try {
    let at = 0;
    for (const bytes of plan.metadata()) at += writeSync(fd, bytes, 0, bytes.length, at);
    if (at !== plan.metadataSizeBytes)
      throw new Error('the metadata has another size than planned');
    for (const { offsetBytes, bytes } of region.written)
      writeSync(fd, bytes, 0, bytes.length, at + offsetBytes);
    ftruncateSync(fd, plan.diskSizeBytes);
  } finally {
    closeSync(fd);
  }
  return plan;
}

/** All bytes of a disk that is small. */
export function diskBytes(placed: PlacedTree): Buffer {
  const region = new DataRegion(placed.contents);
  for (const file of filesOf(placed.tree)) region.add(file.content);
  const plan = planDisk(placed.tree, content => region.placementOf(content), region.sizeBytes);
  const disk = Buffer.alloc(plan.diskSizeBytes);
  Buffer.concat([...plan.metadata()]).copy(disk);
  for (const { offsetBytes, bytes } of region.written)
    bytes.copy(disk, plan.metadataSizeBytes + offsetBytes);
  return disk;
}

function filesOf(tree: Tree): Set<RegularFile> {
  const files = new Set<RegularFile>();
  const open = [tree.root];
  for (let directory = open.pop(); directory !== undefined; directory = open.pop()) {
    for (const inode of directory.entries.values()) {
      if (inode.kind === 'directory') open.push(inode);
      if (inode.kind === 'file') files.add(inode);
    }
  }
  return files;
}

class DataRegion {
  readonly #contents: ReadonlyMap<number, Buffer>;
  readonly #placements = new Map<number, Placement>();
  readonly #places = new Map<string, number>();
  readonly written: { offsetBytes: number; bytes: Buffer }[] = [];
  sizeBytes = 0;

  constructor(contents: ReadonlyMap<number, Buffer>) {
    this.#contents = contents;
  }

  placementOf(content: FileContent): Placement {
    return this.#placements.get(content.ordinal)!;
  }

  add(content: FileContent): void {
    const { ordinal, sizeBytes, runs } = content;
    const data = this.#contents.get(ordinal)!;
    if (runs === undefined && sizeBytes <= inlineFileSizeMaxBytes) {
      this.#placements.set(ordinal, { kind: 'inline', bytes: data });
      return;
    }
    const extents: Extent[] = [];
    for (const unit of unitsOf(content, data)) {
      const { fileOffsetBytes, bytes } = unit;
      extents.push({
        fileOffsetBytes,
        lengthBytes: bytes.length,
        dataOffsetBytes: this.#place(bytes),
      });
    }
    this.#placements.set(ordinal, { kind: 'extents', extents });
  }

  #place(bytes: Buffer): number {
    const digest = sha256Hex(bytes);
    const known = this.#places.get(digest);
    if (known !== undefined) return known;
    const offsetBytes = this.sizeBytes;
    this.#places.set(digest, offsetBytes);
    this.written.push({ offsetBytes, bytes });
    this.sizeBytes += Math.ceil(bytes.length / blockSizeBytes) * blockSizeBytes;
    return offsetBytes;
  }
}

/** A content as runs of whole units: all of it, or what its runs touch. */
function unitsOf(content: FileContent, data: Buffer): { fileOffsetBytes: number; bytes: Buffer }[] {
  if (content.runs === undefined) return [{ fileOffsetBytes: 0, bytes: data }];
  const unitBytes = holeGranularityBytes(content.sizeBytes);
  const units: { fileOffsetBytes: number; bytes: Buffer }[] = [];
  let taken = 0;
  for (const run of content.runs) {
    const start = Math.floor(run.offsetBytes / unitBytes) * unitBytes;
    const runEnd = run.offsetBytes + run.lengthBytes;
    const end = Math.min(content.sizeBytes, Math.ceil(runEnd / unitBytes) * unitBytes);
    let last = units.at(-1);
    const lastEnd = last === undefined ? 0 : last.fileOffsetBytes + last.bytes.length;
    if (last !== undefined && lastEnd >= start) {
      last.bytes = Buffer.concat([last.bytes, Buffer.alloc(Math.max(0, end - lastEnd))]);
    } else {
      last = { fileOffsetBytes: start, bytes: Buffer.alloc(end - start) };
      units.push(last);
    }
    data.copy(last.bytes, run.offsetBytes - last.fileOffsetBytes, taken, taken + run.lengthBytes);
    taken += run.lengthBytes;
  }
  return units;
}

/** A disk in memory. */
export function bufferSource(disk: Buffer): DiskSource {
  return {
    sizeBytes: disk.length,
    read: async (offsetBytes, lengthBytes) => disk.subarray(offsetBytes, offsetBytes + lengthBytes),
  };
}

/** A disk in a file, which may have large holes. */
export class FileSource implements DiskSource, Disposable {
  readonly sizeBytes: number;
  readonly #fd: number;

  constructor(path: string, sizeBytes: number) {
    this.#fd = openSync(path, 'r');
    this.sizeBytes = sizeBytes;
  }

  async read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    const bytes = Buffer.alloc(lengthBytes);
    const count = readSync(this.#fd, bytes, 0, lengthBytes, offsetBytes);
    return bytes.subarray(0, count);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
