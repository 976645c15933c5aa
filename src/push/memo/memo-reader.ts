/**
 * The entries of a memo, one after the other, and what became of their contents. Whatever the bytes
 * are, reading allocates in proportion to them, and throws BadMemo where they are no memo.
 */

import type { ByteString } from '../../base/byte-string.ts';
import { blockSizeBytes, inlineFileSizeMaxBytes } from '../../base/limits.ts';
import { BadMemo } from '../../oci/layer/layer-memo.ts';
import type { TarEntry } from '../../oci/layer/tar-reader.ts';
import type { DataRun } from '../../tree/tree.ts';
import { ByteReader } from './byte-reader.ts';
import type { JournalPiece } from './content-journal.ts';
import {
  contentKinds,
  digestSizeBytes,
  entryHasRuns,
  entryHasXattrs,
  entryTypeMask,
  entryTypes,
  keySizeBytes,
  packSizeMinBytes,
  pieceSizeMinBytes,
  trailerEntryCountAt,
  trailerPackCountAt,
  trailerPacksAt,
  trailerSizeBytes,
} from './format.ts';

export interface MemoPack {
  /** The chunk's. */
  key: Buffer;
  plainSizeBytes: number;
  files: number;
}

export interface MemoPlace {
  pack: number;
  offsetBytes: number;
}

/** What became of a content; buffers are views of the memo. */
export type MemoContent =
  | { kind: 'none' }
  | { kind: 'inline'; bytes: Uint8Array }
  /** Without a place if it was equal to another. */
  | { kind: 'small'; digest: Buffer; place: MemoPlace | undefined }
  | { kind: 'large'; identity: Buffer; pieces: readonly JournalPiece[] };

const none: MemoContent = { kind: 'none' };
const attributeSizeMinBytes = 2;
const runSizeMinBytes = 2;

export class MemoReader {
  readonly packs: readonly MemoPack[];
  readonly #body: Buffer;
  readonly #entries: ByteReader;
  #left: number;
  #path = '' as ByteString;
  #content: MemoContent = none;

  constructor(body: Buffer) {
    this.#body = body;
    const trailerAt = body.length - trailerSizeBytes;
    if (trailerAt < 0) throw new BadMemo('it has no trailer');
    this.#left = body.readUInt32LE(trailerAt + trailerEntryCountAt);
    const packCount = body.readUInt32LE(trailerAt + trailerPackCountAt);
    const packsAt = body.readUInt32LE(trailerAt + trailerPacksAt);
    if (packsAt > trailerAt) throw new BadMemo('its packs begin beyond its end');
    this.#entries = new ByteReader(body, 0, packsAt);
    this.packs = readPacks(new ByteReader(body, packsAt, trailerAt), packCount);
  }

  /** Another reader, whose next entry is the first. */
  fromStart(): MemoReader {
    return new MemoReader(this.#body);
  }

  /** Of the file that `next` gave last. */
  get content(): MemoContent {
    return this.#content;
  }

  /** Undefined after the last. */
  next(): TarEntry | undefined {
    const bytes = this.#entries;
    if (this.#left === 0) {
      if (bytes.leftBytes > 0) throw new BadMemo('it has more entries than it says');
      return undefined;
    }
    this.#left--;
    const first = bytes.byte();
    const type = entryTypes[first & entryTypeMask];
    if (type === undefined) throw new BadMemo('it has an unknown kind of entry');
    const entry: TarEntry = {
      type,
      path: this.#nextPath(),
      linkPath: '' as ByteString,
      mode: bytes.signed(),
      uid: bytes.signed(),
      gid: bytes.signed(),
      mtimeSeconds: bytes.signed(),
      mtimeNanoseconds: bytes.varint(),
      xattrs: (first & entryHasXattrs) === 0 ? undefined : readXattrs(bytes),
      major: 0,
      minor: 0,
      sizeBytes: 0,
      runs: undefined,
    };
    this.#content = none;
    if (type === 'hard-link' || type === 'symlink') entry.linkPath = bytes.text();
    if (type === 'character-device' || type === 'block-device') {
      entry.major = bytes.signed();
      entry.minor = bytes.signed();
    }
    if (type === 'file') {
      entry.sizeBytes = bytes.varint();
      if ((first & entryHasRuns) !== 0) entry.runs = readRuns(bytes, entry.sizeBytes);
      this.#content = this.#readContent(entry.sizeBytes);
    }
    return entry;
  }

  #nextPath(): ByteString {
    const shared = this.#entries.varint();
    if (shared > this.#path.length) throw new BadMemo('a path shares more than there is');
    const tail = this.#entries.text();
    this.#path = (shared === 0 ? tail : this.#path.slice(0, shared) + tail) as ByteString;
    return this.#path;
  }

  #readContent(sizeBytes: number): MemoContent {
    const bytes = this.#entries;
    const kind = bytes.byte();
    switch (kind) {
      case contentKinds.none:
        return none;
      case contentKinds.inline:
        if (sizeBytes > inlineFileSizeMaxBytes) throw new BadMemo('an inline file is too large');
        return { kind: 'inline', bytes: bytes.bytes(sizeBytes) };
      case contentKinds.packed: {
        const digest = bytes.bytes(digestSizeBytes);
        const pack = bytes.varint();
        const offsetBytes = bytes.varint() * blockSizeBytes;
        if (pack >= this.packs.length) throw new BadMemo('a file is in no pack');
        return { kind: 'small', digest, place: { pack, offsetBytes } };
      }
      case contentKinds.equal:
        return { kind: 'small', digest: bytes.bytes(digestSizeBytes), place: undefined };
      case contentKinds.large:
        return { kind: 'large', identity: bytes.bytes(digestSizeBytes), pieces: readPieces(bytes) };
      default:
        throw new BadMemo('it has an unknown kind of content');
    }
  }
}

function readPacks(bytes: ByteReader, count: number): MemoPack[] {
  checkCount(bytes, count, packSizeMinBytes);
  const packs: MemoPack[] = [];
  for (let i = 0; i < count; i++) {
    const key = bytes.bytes(keySizeBytes);
    packs.push({ key, plainSizeBytes: bytes.varint(), files: bytes.varint() });
  }
  if (bytes.leftBytes > 0) throw new BadMemo('it has more packs than it says');
  return packs;
}

function readPieces(bytes: ByteReader): JournalPiece[] {
  const count = bytes.varint();
  checkCount(bytes, count, pieceSizeMinBytes);
  const pieces: JournalPiece[] = [];
  let end = 0;
  for (let i = 0; i < count; i++) {
    const fileOffsetBytes = end + bytes.varint();
    const lengthBytes = bytes.varint();
    const plainSizeBytes = lengthBytes + bytes.varint();
    end = fileOffsetBytes + lengthBytes;
    pieces.push({ fileOffsetBytes, lengthBytes, plainSizeBytes, key: bytes.bytes(keySizeBytes) });
  }
  return pieces;
}

function readXattrs(bytes: ByteReader): Map<ByteString, ByteString> {
  const count = bytes.varint();
  checkCount(bytes, count, attributeSizeMinBytes);
  const xattrs = new Map<ByteString, ByteString>();
  for (let i = 0; i < count; i++) {
    const name = bytes.text();
    xattrs.set(name, bytes.text());
  }
  return xattrs;
}

function readRuns(bytes: ByteReader, sizeBytes: number): DataRun[] {
  const count = bytes.varint();
  checkCount(bytes, count, runSizeMinBytes);
  const runs: DataRun[] = [];
  let end = 0;
  for (let i = 0; i < count; i++) {
    const offsetBytes = end + bytes.varint();
    const lengthBytes = bytes.varint();
    end = offsetBytes + lengthBytes;
    runs.push({ offsetBytes, lengthBytes });
  }
  if (end > sizeBytes) throw new BadMemo('a run ends behind its file');
  return runs;
}

/** Before anything is made for each of them. */
function checkCount(bytes: ByteReader, count: number, sizeMinBytes: number): void {
  if (count * sizeMinBytes > bytes.leftBytes) throw new BadMemo('it counts more than it holds');
}
