/** The thread of tree-compare.ts: walks both trees side by side and answers with the differences. */

import {
  type BigIntStats,
  closeSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
} from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { type ByteString, byteString, bytesOf, printable } from '../../src/base/byte-string.ts';
import type { CompareTask, Field } from './tree-compare.ts';
import { XattrReader } from './xattrs.ts';

const slash = Buffer.from('/');
const nul = Buffer.alloc(1);
const readSizeBytes = 1024 * 1024;

/** One path in one tree. */
interface Side {
  path: Buffer;
  stats: BigIntStats;
}

/** Thrown to end the walk when enough differences are listed. */
class EnoughListed extends Error {}

class Comparison {
  readonly differences: string[] = [];
  readonly #task: CompareTask;
  readonly #xattrs = new XattrReader();
  readonly #buffers = [Buffer.alloc(readSizeBytes), Buffer.alloc(readSizeBytes)] as const;
  /** First path seen of every inode with several, and pairs of inodes whose content was compared. */
  readonly #firstExpected = new Map<string, string>();
  readonly #firstActual = new Map<string, string>();
  readonly #comparedContents = new Set<string>();

  constructor(task: CompareTask) {
    this.#task = task;
  }

  run(): void {
    const { expectedDir, actualDir } = this.#task;
    const waiting = [
      { shown: '.', pair: pairOf(Buffer.from(expectedDir), Buffer.from(actualDir)) },
    ];
    try {
      for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
        const { shown, pair } = next;
        this.#compareInodes(shown, ...pair);
        if (!pair[0].stats.isDirectory() || !pair[1].stats.isDirectory()) continue;
        const children = this.#commonEntries(shown, pair[0].path, pair[1].path);
        waiting.push(...children.reverse());
      }
    } catch (error) {
      if (!(error instanceof EnoughListed)) throw error;
      this.differences.push(`more than ${this.#task.differencesMax} differences`);
    }
  }

  #report(path: string, field: Field, what: string): void {
    const ignored = this.#task.ignore.some(
      rule => (rule.field ?? field) === field && (rule.path ?? path) === path,
    );
    if (ignored) return;
    if (this.differences.length === this.#task.differencesMax) throw new EnoughListed();
    this.differences.push(`${path}: ${field}: ${what}`);
  }

  #expect(path: string, field: Field, expected: unknown, actual: unknown): void {
    if (expected !== actual) this.#report(path, field, `expected ${expected}, actual ${actual}`);
  }

  #commonEntries(shown: string, expected: Buffer, actual: Buffer) {
    const expectedNames = namesIn(expected);
    const actualNames = namesIn(actual);
    const prefix = shown === '.' ? '' : `${shown}/`;
    for (const name of actualNames) {
      if (!expectedNames.has(name)) this.#report(prefix + printable(name), 'entry', 'unexpected');
    }
    const children = [];
    for (const name of [...expectedNames].sort()) {
      const path = prefix + printable(name);
      if (actualNames.has(name)) {
        const bytes = bytesOf(name);
        children.push({ shown: path, pair: pairOf(join(expected, bytes), join(actual, bytes)) });
      } else {
        this.#report(path, 'entry', 'missing');
      }
    }
    return children;
  }

  #compareInodes(shown: string, expected: Side, actual: Side): void {
    const [e, a] = [expected.stats, actual.stats];
    const type = typeOf(e);
    if (type !== typeOf(a)) {
      this.#expect(shown, 'type', type, typeOf(a));
      return;
    }
    this.#expect(shown, 'mode', octal(e), octal(a));
    this.#expect(shown, 'uid', e.uid, a.uid);
    this.#expect(shown, 'gid', e.gid, a.gid);
    this.#expect(shown, 'mtime', e.mtimeNs, a.mtimeNs);
    this.#expect(shown, 'links', e.nlink, a.nlink);
    this.#compareXattrs(shown, expected.path, actual.path);
    if (type === 'directory') return;
    const [expectedFirst, actualFirst] = [
      firstPath(this.#firstExpected, shown, e),
      firstPath(this.#firstActual, shown, a),
    ];
    this.#expect(shown, 'hard-link', expectedFirst, actualFirst);
    if (type.endsWith('device')) this.#expect(shown, 'device', device(e), device(a));
    if (type === 'symlink') this.#expect(shown, 'target', target(expected), target(actual));
    if (type === 'file' || type === 'symlink') this.#expect(shown, 'size', e.size, a.size);
    if (type === 'file' && e.size === a.size) this.#compareContents(shown, expected, actual);
  }

  #compareXattrs(shown: string, expectedPath: Buffer, actualPath: Buffer): void {
    const expected = this.#xattrs.read(Buffer.concat([expectedPath, nul]));
    const actual = this.#xattrs.read(Buffer.concat([actualPath, nul]));
    for (const name of new Set([...expected.keys(), ...actual.keys()])) {
      const [e, a] = [expected.get(name), actual.get(name)];
      if (e !== undefined && a !== undefined && e.equals(a)) continue;
      const values = `expected ${shownValue(e)}, actual ${shownValue(a)}`;
      this.#report(shown, 'xattr', `${printable(name)}: ${values}`);
    }
  }

  #compareContents(shown: string, expected: Side, actual: Side): void {
    if (expected.stats.nlink > 1n) {
      const pair = `${inodeOf(expected.stats)} ${inodeOf(actual.stats)}`;
      if (this.#comparedContents.has(pair)) return;
      this.#comparedContents.add(pair);
    }
    if (expected.stats.size === 0n) return;
    using e = openFile(expected.path);
    using a = openFile(actual.path);
    let offset = 0;
    for (;;) {
      const [expectedBytes, actualBytes] = [
        readFully(e.fd, this.#buffers[0]),
        readFully(a.fd, this.#buffers[1]),
      ];
      if (!expectedBytes.equals(actualBytes)) {
        const at = offset + firstDifference(expectedBytes, actualBytes);
        this.#report(shown, 'content', `differs from byte ${at}`);
        return;
      }
      if (expectedBytes.length < readSizeBytes) return;
      offset += expectedBytes.length;
    }
  }
}

function pairOf(expected: Buffer, actual: Buffer): [Side, Side] {
  const side = (path: Buffer): Side => ({ path, stats: lstatSync(path, { bigint: true }) });
  return [side(expected), side(actual)];
}

function namesIn(dir: Buffer): Set<ByteString> {
  return new Set(readdirSync(dir, { encoding: 'buffer' }).map(byteString));
}

function join(dir: Buffer, name: Buffer): Buffer {
  return Buffer.concat([dir, slash, name]);
}

function typeOf(stats: BigIntStats): string {
  if (stats.isFile()) return 'file';
  if (stats.isDirectory()) return 'directory';
  if (stats.isSymbolicLink()) return 'symlink';
  if (stats.isCharacterDevice()) return 'character-device';
  if (stats.isBlockDevice()) return 'block-device';
  return stats.isFIFO() ? 'fifo' : 'socket';
}

function octal(stats: BigIntStats): string {
  return (stats.mode & 0o7777n).toString(8).padStart(4, '0');
}

/** As the kernel packs a dev_t: 12 bits of major between the two parts of a 20-bit minor. */
function device({ rdev }: BigIntStats): string {
  return `${(rdev >> 8n) & 0xfffn}:${(rdev & 0xffn) | ((rdev >> 12n) & 0xfff00n)}`;
}

function target(side: Side): string {
  return printable(byteString(readlinkSync(side.path, { encoding: 'buffer' })));
}

function inodeOf(stats: BigIntStats): string {
  return `${stats.dev}:${stats.ino}`;
}

/** The first path of the walk that is this inode; a path by itself if it has only one. */
function firstPath(seen: Map<string, string>, path: string, stats: BigIntStats): string {
  if (stats.nlink === 1n) return path;
  const inode = inodeOf(stats);
  const first = seen.get(inode);
  if (first === undefined) seen.set(inode, path);
  return first ?? path;
}

function shownValue(value: Buffer | undefined): string {
  if (value === undefined) return 'none';
  const hex = value.subarray(0, 32).toString('hex');
  return `${value.length} bytes 0x${hex}${value.length > 32 ? '…' : ''}`;
}

function openFile(path: Buffer): Disposable & { fd: number } {
  const fd = openSync(path, 'r');
  return { fd, [Symbol.dispose]: () => closeSync(fd) };
}

function readFully(fd: number, buffer: Buffer): Buffer {
  let length = 0;
  while (length < buffer.length) {
    const got = readSync(fd, buffer, length, buffer.length - length, null);
    if (got === 0) break;
    length += got;
  }
  return buffer.subarray(0, length);
}

function firstDifference(expected: Buffer, actual: Buffer): number {
  const common = Math.min(expected.length, actual.length);
  for (let i = 0; i < common; i++) if (expected[i] !== actual[i]) return i;
  return common;
}

const comparison = new Comparison(workerData as CompareTask);
comparison.run();
parentPort?.postMessage(comparison.differences);
