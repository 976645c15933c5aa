/**
 * Reads a tar archive from the buffers in which it arrives, without copying file data.
 *
 * Feed a buffer, call next() until it says 'starved', feed the next one; call close() when the
 * bytes are over. Every entry is one 'entry', then 'data' for each piece of what the archive stores
 * of it, then 'end'. What follows the end marker is swallowed.
 *
 * Where tars are ambiguous this is Go's archive/tar, which is what container runtimes read layers
 * with: links, devices and directories have no data whatever their size field says; global PAX
 * headers apply to nothing; a GNU long name beats a PAX path; an archive may lack its end marker.
 */

import type { ByteString } from '../../base/byte-string.ts';
import { diskSizeMaxBytes, tarSpecialHeaderMaxBytes } from '../../base/limits.ts';
import type { DataRun } from '../../tree/tree.ts';
import { EntryFault, located, shownPath } from './fault.ts';
import * as format from './tar-format.ts';
import { blockBytes, tarType } from './tar-format.ts';
import {
  cString,
  isZeroBlock,
  readDeviceNumbers,
  readHeader,
  type TarHeader,
} from './tar-header.ts';
import { parseDecimal, parseNumber } from './tar-number.ts';
import { type PaxRecords, parsePax } from './tar-pax.ts';
import {
  paxSparsePairs,
  paxSparseVersion,
  readOldPairs,
  runsOf,
  type SparsePairs,
  SparseText,
} from './tar-sparse.ts';

export type TarEntryType =
  | 'file'
  | 'hard-link'
  | 'symlink'
  | 'character-device'
  | 'block-device'
  | 'directory'
  | 'fifo';

/** Names and numbers as the archive gives them: not cleaned, not checked against any limit. */
export interface TarEntry {
  type: TarEntryType;
  path: ByteString;
  /** The target of a symlink, or the path that a hard link names. */
  linkPath: ByteString;
  mode: number;
  uid: number;
  gid: number;
  mtimeSeconds: number;
  mtimeNanoseconds: number;
  xattrs: ReadonlyMap<ByteString, ByteString> | undefined;
  major: number;
  minor: number;
  /** Of the file, holes included. */
  sizeBytes: number;
  /** As in FileContent: undefined if there are no holes. */
  runs: DataRun[] | undefined;
}

export type TarEvent = 'starved' | 'entry' | 'data' | 'end';

type State = 'header' | 'special' | 'sparse-blocks' | 'sparse-text' | 'data' | 'after-end';

const entryTypes: ReadonlyMap<number, TarEntryType> = new Map([
  [tarType.file, 'file'],
  [tarType.contiguousFile, 'file'],
  [tarType.gnuSparse, 'file'],
  [tarType.hardLink, 'hard-link'],
  [tarType.symlink, 'symlink'],
  [tarType.characterDevice, 'character-device'],
  [tarType.blockDevice, 'block-device'],
  [tarType.directory, 'directory'],
  [tarType.fifo, 'fifo'],
]);

const specialTypes: ReadonlySet<number> = new Set([
  tarType.paxLocal,
  tarType.paxGlobal,
  tarType.gnuLongName,
  tarType.gnuLongLink,
]);

export class TarReader {
  readonly #what: string;
  #state: State = 'header';
  #buffer: Buffer = Buffer.alloc(0);
  #at = 0;
  /** The block that was taken last: #block from #blockAt. */
  #block: Buffer = this.#buffer;
  #blockAt = 0;
  /** A block that arrives in two buffers is put together here. */
  readonly #scratch = Buffer.alloc(blockBytes);
  #scratchFilled = 0;
  #zeroBlocks = 0;
  /** Padding to skip before the next header. */
  #skipBytes = 0;
  /** Stored data of the current entry that is still to come. */
  #storedBytes = 0;
  #special: Buffer = this.#buffer;
  #specialType = 0;
  #specialFilled = 0;
  #pax: PaxRecords | undefined;
  #longName = '' as ByteString;
  #longLink = '' as ByteString;
  #pairs: SparsePairs = [];
  #sparseText = new SparseText();
  /** Of the current entry, or of the last one. */
  #path: ByteString | undefined;
  #inEntry = false;
  #entry: TarEntry | undefined;
  #data: Buffer = this.#buffer;

  /** `what` opens error messages: "Cannot read layer sha256:…". */
  constructor(what: string) {
    this.#what = what;
  }

  /** Valid after 'entry' until the next one. */
  get entry(): TarEntry {
    return this.#entry!;
  }

  /** Valid after 'data': a part of the buffer that was fed. */
  get data(): Buffer {
    return this.#data;
  }

  /** Only after next() said 'starved'. */
  feed(buffer: Buffer): void {
    this.#buffer = buffer;
    this.#at = 0;
  }

  /** Throws ImgstoreError if the archive is malformed or beyond a limit. */
  next(): TarEvent {
    try {
      return this.#step();
    } catch (error) {
      throw located(this.#place(), error);
    }
  }

  /** Throws ImgstoreError if the archive stops in the middle of something. */
  close(): void {
    const whole = this.#state === 'header' && this.#scratchFilled === 0;
    if (this.#state === 'after-end' || (whole && !this.#hasSpecial())) return;
    const fault = new EntryFault('CORRUPT', 'the archive stops in the middle');
    throw located(this.#place(), fault);
  }

  #place(): string {
    if (this.#path === undefined) return this.#what;
    return `${this.#what}${this.#inEntry ? ':' : ', after'} entry ${shownPath(this.#path)}`;
  }

  #hasSpecial(): boolean {
    return this.#pax !== undefined || this.#longName !== '' || this.#longLink !== '';
  }

  #step(): TarEvent {
    for (;;) {
      switch (this.#state) {
        case 'header':
          if (!this.#skipPadding() || !this.#takeBlock()) return 'starved';
          if (this.#onHeader()) return 'entry';
          break;
        case 'special':
          if (!this.#fillSpecial()) return 'starved';
          this.#onSpecial();
          break;
        case 'sparse-blocks':
          if (!this.#takeBlock()) return 'starved';
          if (this.#onSparseBlock()) return 'entry';
          break;
        case 'sparse-text':
          if (!this.#takeBlock()) return 'starved';
          if (this.#onSparseText()) return 'entry';
          break;
        case 'data':
          return this.#nextData();
        case 'after-end':
          this.#at = this.#buffer.length;
          return 'starved';
      }
    }
  }

  #nextData(): TarEvent {
    if (this.#storedBytes === 0) {
      this.#state = 'header';
      this.#inEntry = false;
      return 'end';
    }
    const available = this.#buffer.length - this.#at;
    if (available === 0) return 'starved';
    const length = Math.min(available, this.#storedBytes);
    this.#data = this.#buffer.subarray(this.#at, this.#at + length);
    this.#at += length;
    this.#storedBytes -= length;
    return 'data';
  }

  #skipPadding(): boolean {
    if (this.#skipBytes === 0) return true;
    const length = Math.min(this.#skipBytes, this.#buffer.length - this.#at);
    this.#at += length;
    this.#skipBytes -= length;
    return this.#skipBytes === 0;
  }

  #takeBlock(): boolean {
    const available = this.#buffer.length - this.#at;
    if (this.#scratchFilled === 0 && available >= blockBytes) {
      this.#block = this.#buffer;
      this.#blockAt = this.#at;
      this.#at += blockBytes;
      return true;
    }
    const length = Math.min(blockBytes - this.#scratchFilled, available);
    this.#buffer.copy(this.#scratch, this.#scratchFilled, this.#at, this.#at + length);
    this.#at += length;
    this.#scratchFilled += length;
    if (this.#scratchFilled < blockBytes) return false;
    this.#scratchFilled = 0;
    this.#block = this.#scratch;
    this.#blockAt = 0;
    return true;
  }

  /** True if the block makes an entry complete. */
  #onHeader(): boolean {
    if (isZeroBlock(this.#block, this.#blockAt)) {
      this.#zeroBlocks++;
      if (this.#zeroBlocks === 2) this.#state = 'after-end';
      return false;
    }
    if (this.#zeroBlocks === 1)
      throw new EntryFault('CORRUPT', 'a lone zero block stands before the next header');
    const header = readHeader(this.#block, this.#blockAt);
    if (!specialTypes.has(header.type)) return this.#onEntry(header);
    if (header.sizeBytes < 0) throw new EntryFault('CORRUPT', 'its size is negative');
    if (header.sizeBytes > tarSpecialHeaderMaxBytes)
      throw new EntryFault(
        'LIMIT',
        `an extended header has more than ${tarSpecialHeaderMaxBytes} bytes`,
      );
    this.#specialType = header.type;
    this.#special = Buffer.allocUnsafe(header.sizeBytes);
    this.#specialFilled = 0;
    this.#skipBytes = paddingOf(header.sizeBytes);
    this.#state = 'special';
    return false;
  }

  #fillSpecial(): boolean {
    const { length } = this.#special;
    const end = Math.min(this.#buffer.length, this.#at + length - this.#specialFilled);
    this.#buffer.copy(this.#special, this.#specialFilled, this.#at, end);
    this.#specialFilled += end - this.#at;
    this.#at = end;
    return this.#specialFilled === length;
  }

  #onSpecial(): void {
    const payload = this.#special;
    if (this.#specialType === tarType.paxLocal) this.#pax = parsePax(payload);
    else if (this.#specialType === tarType.gnuLongName)
      this.#longName = cString(payload, 0, payload.length);
    else if (this.#specialType === tarType.gnuLongLink)
      this.#longLink = cString(payload, 0, payload.length);
    this.#state = 'header';
  }

  #onEntry(header: TarHeader): boolean {
    const pax = this.#pax;
    const path = this.#longName || pax?.path || header.name;
    const linkPath = this.#longLink || pax?.linkPath || header.linkName;
    this.#path = path;
    this.#inEntry = true;
    this.#pax = undefined;
    this.#longName = '' as ByteString;
    this.#longLink = '' as ByteString;

    const type = typeOf(header.type, path);
    const storedBytes = type === 'file' ? (pax?.sizeBytes ?? header.sizeBytes) : 0;
    if (storedBytes < 0) throw new EntryFault('CORRUPT', 'its size is negative');
    if (storedBytes > diskSizeMaxBytes)
      throw new EntryFault('LIMIT', `it is larger than ${diskSizeMaxBytes} bytes`);
    const device = type === 'character-device' || type === 'block-device';
    const { major, minor } = device
      ? readDeviceNumbers(this.#block, this.#blockAt, header.format)
      : { major: 0, minor: 0 };
    this.#entry = {
      type,
      path,
      linkPath,
      mode: header.mode,
      uid: pax?.uid ?? header.uid,
      gid: pax?.gid ?? header.gid,
      mtimeSeconds: pax?.mtime?.seconds ?? header.mtimeSeconds,
      mtimeNanoseconds: pax?.mtime?.nanoseconds ?? 0,
      xattrs: pax?.xattrs,
      major,
      minor,
      sizeBytes: storedBytes,
      runs: undefined,
    };
    this.#storedBytes = storedBytes;
    this.#skipBytes = paddingOf(storedBytes);
    this.#state = 'data';
    if (header.type === tarType.gnuSparse) return this.#onOldSparse(header);
    if (pax?.sparse !== undefined) return this.#onPaxSparse(pax);
    return true;
  }

  #onOldSparse(header: TarHeader): boolean {
    if (header.format !== 'gnu')
      throw new EntryFault('CORRUPT', 'it is a GNU sparse file without a GNU header');
    const block = this.#block;
    const start = this.#blockAt;
    const realSizeAt = start + format.gnuSparseRealSizeAt;
    this.#entry!.sizeBytes = parseNumber(block, realSizeAt, format.longNumberLength);
    this.#pairs = [];
    readOldPairs(block, start + format.gnuSparseMapAt, format.gnuSparseMapCount, this.#pairs);
    if (block[start + format.gnuSparseExtendedAt] === 0) return this.#endSparse(this.#pairs);
    this.#state = 'sparse-blocks';
    return false;
  }

  #onSparseBlock(): boolean {
    readOldPairs(this.#block, this.#blockAt, format.gnuSparseBlockCount, this.#pairs);
    if (this.#block[this.#blockAt + format.gnuSparseBlockExtendedAt] !== 0) return false;
    return this.#endSparse(this.#pairs);
  }

  #onPaxSparse(pax: PaxRecords): boolean {
    const sparse = pax.sparse!;
    const entry = this.#entry!;
    const version = paxSparseVersion(sparse);
    if (version === undefined) return true;
    if (entry.type !== 'file') throw new EntryFault('CORRUPT', 'it is sparse and not a file');
    entry.path = sparse.name || entry.path;
    this.#path = entry.path;
    const size = sparse.size || sparse.realSize;
    if (size !== '') entry.sizeBytes = parseDecimal(size, 'sparse size');
    if (version === 'records') return this.#endSparse(paxSparsePairs(sparse));
    this.#sparseText = new SparseText();
    this.#state = 'sparse-text';
    return false;
  }

  /** The map is a part of what the archive stores of the file. */
  #onSparseText(): boolean {
    this.#storedBytes -= blockBytes;
    if (this.#storedBytes < 0) throw new EntryFault('CORRUPT', 'its sparse map is malformed');
    if (!this.#sparseText.push(this.#block, this.#blockAt, blockBytes)) return false;
    return this.#endSparse(this.#sparseText.pairs);
  }

  #endSparse(pairs: SparsePairs): true {
    const entry = this.#entry!;
    entry.runs = runsOf(pairs, entry.sizeBytes, this.#storedBytes);
    this.#state = 'data';
    return true;
  }
}

/** Before POSIX a directory was a file whose name ends in a slash. */
function typeOf(type: number, path: ByteString): TarEntryType {
  if (type === tarType.oldFile) return path.endsWith('/') ? 'directory' : 'file';
  const known = entryTypes.get(type);
  if (known !== undefined) return known;
  const shown = JSON.stringify(String.fromCharCode(type));
  throw new EntryFault('UNSUPPORTED', `tar type ${shown} does not belong in a layer`);
}

function paddingOf(bytes: number): number {
  return -bytes & (blockBytes - 1);
}
