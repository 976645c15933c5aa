/**
 * umoci as the judge of flattening: what it unpacks from an image, against a tree.
 *
 * One thing is let pass, and only where it is asked for: umoci leaves the current time on
 * directories that no layer describes, and on those in which it made or removed one on the way.
 */

import { type BigIntStats, lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { type ByteString, byteString, bytesOf, printable } from '../../src/base/byte-string.ts';
import { type Inode, sortedEntries, type Tree } from '../../src/tree/tree.ts';
import type { ContentKeeper } from './memory-image.ts';
import { writeOciLayout } from './oci-layout.ts';
import { runCommand } from './processes.ts';
import { XattrReader } from './xattrs.ts';

/** Unpacks the image of these layers below `dir`; the root file system's folder, or umoci's error. */
export async function umociUnpack(
  dir: string,
  layers: readonly Buffer[],
): Promise<{ rootfs: string } | { error: string }> {
  const layout = join(dir, 'layout');
  writeOciLayout(layout, {
    layers: layers.map(tar => ({ tar, compression: 'none' })),
    tag: 'test',
  });
  const bundle = join(dir, 'bundle');
  const result = await runCommand('umoci', ['unpack', '--image', `${layout}:test`, bundle]);
  if (result.exitCode === 0) return { rootfs: join(bundle, 'rootfs') };
  return { error: result.stderr };
}

export interface CompareTreeOptions {
  /** Directories may have a time from then on instead of the tree's: nanoseconds since 1970. */
  directoryTimesSince?: bigint;
}

/** Lines of `PATH: FIELD: …`; none if the folder holds exactly the tree. */
export function compareTreeToFolder(
  tree: Tree,
  contents: ContentKeeper,
  folder: string,
  options: CompareTreeOptions = {},
): string[] {
  const comparison = new Comparison(contents, options);
  comparison.inode('.', tree.root, Buffer.from(folder));
  return comparison.differences;
}

class Comparison {
  readonly differences: string[] = [];
  readonly #contents: ContentKeeper;
  readonly #options: CompareTreeOptions;
  readonly #xattrs = new XattrReader();
  /** Which inode number stands for which inode, both ways. */
  readonly #numbers = new Map<Inode, bigint>();
  readonly #inodes = new Map<bigint, Inode>();

  constructor(contents: ContentKeeper, options: CompareTreeOptions) {
    this.#contents = contents;
    this.#options = options;
  }

  inode(shown: string, inode: Inode, path: Buffer): void {
    const stats = lstatSync(path, { bigint: true });
    const kind = kindOf(stats);
    if (kind !== inode.kind) {
      this.#expect(shown, 'kind', inode.kind, kind);
      return;
    }
    this.#expect(shown, 'mode', inode.mode.toString(8), (stats.mode & 0o7777n).toString(8));
    this.#expect(shown, 'uid', BigInt(inode.uid), stats.uid);
    this.#expect(shown, 'gid', BigInt(inode.gid), stats.gid);
    this.#time(shown, inode, stats);
    this.#sameXattrs(shown, inode, path);
    if (inode.kind === 'directory') {
      this.#entries(shown, inode, path);
      return;
    }
    this.#expect(shown, 'hard link', this.#numbers.get(inode) ?? stats.ino, stats.ino);
    this.#expect(shown, 'hard link', this.#inodes.get(stats.ino) ?? inode, inode);
    this.#numbers.set(inode, stats.ino);
    this.#inodes.set(stats.ino, inode);
    if (inode.kind === 'symlink')
      this.#expect(shown, 'target', inode.target, byteString(readlinkSync(path, 'buffer')));
    if (inode.kind === 'character-device' || inode.kind === 'block-device')
      this.#expect(shown, 'device', `${inode.major}:${inode.minor}`, deviceOf(stats));
    if (inode.kind === 'file') {
      const equal = this.#contents.bytes(inode.content).equals(readFileSync(path));
      this.#expect(shown, 'content equal', true, equal);
    }
  }

  #entries(shown: string, directory: Inode & { kind: 'directory' }, path: Buffer): void {
    const found = new Set<ByteString>(readdirSync(path, { encoding: 'buffer' }).map(byteString));
    for (const [name, inode] of sortedEntries(directory)) {
      const below = `${shown}/${printable(name)}`;
      if (!found.delete(name)) this.differences.push(`${below}: only in the tree`);
      else this.inode(below, inode, Buffer.concat([path, Buffer.from('/'), bytesOf(name)]));
    }
    for (const name of found)
      this.differences.push(`${shown}/${printable(name)}: only in the folder`);
  }

  #time(shown: string, inode: Inode, stats: BigIntStats): void {
    const since = this.#options.directoryTimesSince;
    if (since !== undefined && inode.kind === 'directory' && stats.mtimeNs >= since) return;
    const expected = BigInt(inode.mtimeSeconds) * 1_000_000_000n + BigInt(inode.mtimeNanoseconds);
    this.#expect(shown, 'mtime', expected, stats.mtimeNs);
  }

  #sameXattrs(shown: string, inode: Inode, path: Buffer): void {
    const found = this.#xattrs.read(Buffer.concat([path, Buffer.alloc(1)]));
    const text = (xattrs: ReadonlyMap<ByteString, Uint8Array>) =>
      [...xattrs].map(([name, value]) => `${name}=${Buffer.from(value).toString('hex')}`).sort();
    this.#expect(shown, 'xattrs', text(inode.xattrs).join(), text(found).join());
  }

  #expect(shown: string, field: string, expected: unknown, actual: unknown): void {
    if (expected === actual) return;
    this.differences.push(`${shown}: ${field}: tree ${expected}, folder ${actual}`);
  }
}

function kindOf(stats: BigIntStats): Inode['kind'] | 'other' {
  if (stats.isFile()) return 'file';
  if (stats.isDirectory()) return 'directory';
  if (stats.isSymbolicLink()) return 'symlink';
  if (stats.isCharacterDevice()) return 'character-device';
  if (stats.isBlockDevice()) return 'block-device';
  return stats.isFIFO() ? 'fifo' : 'other';
}

function deviceOf({ rdev }: BigIntStats): string {
  return `${(rdev >> 8n) & 0xfffn}:${(rdev & 0xffn) | ((rdev >> 12n) & 0xfff00n)}`;
}
