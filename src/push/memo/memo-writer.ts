/**
 * Notes of a layer while it is read: each entry, and what becomes of its content, in the order in
 * which both come by. What an older memo of the layer knows about contents that are not packed this
 * time is carried over: images that share a layer hide different files of it.
 */

import { assert } from '../../base/assert.ts';
import type { ByteString } from '../../base/byte-string.ts';
import { blockSizeBytes, layerMemoSizeMaxBytes } from '../../base/limits.ts';
import { PackEnds } from '../../chunk/file-packer.ts';
import { BadMemo } from '../../oci/layer/layer-memo.ts';
import type { TarEntry } from '../../oci/layer/tar-reader.ts';
import type { DataRun } from '../../tree/tree.ts';
import { ByteWriter } from './byte-writer.ts';
import type { ContentJournal, JournalPiece } from './content-journal.ts';
import { contentKinds, entryHasRuns, entryHasXattrs, entryTypes } from './format.ts';
import type { MemoContent, MemoPack, MemoPlace, MemoReader } from './memo-reader.ts';

const typeCodes = new Map(entryTypes.map((type, code) => [type, code]));
const none: MemoContent = { kind: 'none' };

export class MemoWriter implements ContentJournal {
  readonly #sizeMaxBytes: number;
  #bytes = new ByteWriter();
  #isOver = false;
  #entries = 0;
  #path = '';
  /** The file whose content has not come yet, if any. */
  #file: TarEntry | undefined;
  readonly #packs: MemoPack[] = [];
  readonly #ends = new PackEnds();
  /** The pack that is being filled, by its place in #packs. */
  #filling: number | undefined;
  /** Packs that have not become chunks yet, oldest first. */
  readonly #withoutChunk: number[] = [];
  /** Goes along with the entries. */
  #old: MemoReader | undefined;
  #oldContent: MemoContent = none;
  /** By the place in the old memo. */
  readonly #carried = new Map<number, number>();

  constructor(old?: MemoReader, sizeMaxBytes = layerMemoSizeMaxBytes) {
    this.#old = old;
    this.#sizeMaxBytes = sizeMaxBytes;
  }

  entry(entry: TarEntry): void {
    this.#endFile();
    this.#stepOld(entry);
    if (this.#isOver) return;
    this.#entries++;
    this.#putEntry(entry);
    if (entry.type === 'file') this.#file = entry;
    if (this.#bytes.sizeBytes <= this.#sizeMaxBytes) return;
    this.#isOver = true;
    this.#bytes = new ByteWriter();
    this.#file = undefined;
  }

  inline(bytes: Uint8Array): void {
    this.#put({ kind: 'inline', bytes });
  }

  small(digest: Buffer, { isPacked }: { isPacked: boolean }): void {
    const place = isPacked ? this.#place(digest) : this.#oldPlace(digest);
    this.#put({ kind: 'small', digest, place });
  }

  large(identity: string, pieces: readonly JournalPiece[]): void {
    this.#put({ kind: 'large', identity: Buffer.from(identity, 'hex'), pieces });
  }

  pack({ key, plainSizeBytes }: { key: Buffer; plainSizeBytes: number }): void {
    if (this.#isOver) return;
    const pack = this.#packs[this.#withoutChunk.shift() ?? -1];
    assert(pack !== undefined, 'packs come in the order of their files');
    pack.key = key;
    pack.plainSizeBytes = plainSizeBytes;
  }

  /** The body, in pieces of the caller's own; undefined if it is too large to be kept. */
  finish(): Buffer[] | undefined {
    this.#endFile();
    if (this.#isOver) return undefined;
    assert(this.#withoutChunk.length === 0, 'every pack has become a chunk');
    const bytes = this.#bytes;
    const packsAt = bytes.sizeBytes;
    for (const { key, plainSizeBytes, files } of this.#packs) {
      bytes.bytes(key);
      bytes.varint(plainSizeBytes);
      bytes.varint(files);
    }
    for (const value of [this.#entries, this.#packs.length, packsAt]) bytes.u32(value);
    return bytes.sizeBytes <= this.#sizeMaxBytes ? bytes.finish() : undefined;
  }

  #putEntry(entry: TarEntry): void {
    const bytes = this.#bytes;
    const { type, path, xattrs, runs } = entry;
    const hasXattrs = xattrs !== undefined && xattrs.size > 0;
    const flags = (hasXattrs ? entryHasXattrs : 0) | (runs === undefined ? 0 : entryHasRuns);
    bytes.byte(typeCodes.get(type)! | flags);
    const shared = sharedLength(this.#path, path);
    bytes.varint(shared);
    bytes.text(path, shared);
    this.#path = path;
    bytes.signed(entry.mode);
    bytes.signed(entry.uid);
    bytes.signed(entry.gid);
    bytes.signed(entry.mtimeSeconds);
    bytes.varint(entry.mtimeNanoseconds);
    if (hasXattrs) this.#putXattrs(xattrs);
    if (type === 'hard-link' || type === 'symlink') bytes.text(entry.linkPath);
    if (type === 'character-device' || type === 'block-device') {
      bytes.signed(entry.major);
      bytes.signed(entry.minor);
    }
    if (type !== 'file') return;
    bytes.varint(entry.sizeBytes);
    if (runs !== undefined) this.#putRuns(runs);
  }

  #putXattrs(xattrs: ReadonlyMap<ByteString, ByteString>): void {
    this.#bytes.varint(xattrs.size);
    for (const [name, value] of xattrs) {
      this.#bytes.text(name);
      this.#bytes.text(value);
    }
  }

  #putRuns(runs: readonly DataRun[]): void {
    this.#bytes.varint(runs.length);
    let end = 0;
    for (const { offsetBytes, lengthBytes } of runs) {
      this.#bytes.varint(offsetBytes - end);
      this.#bytes.varint(lengthBytes);
      end = offsetBytes + lengthBytes;
    }
  }

  /** A file that was not wanted. */
  #endFile(): void {
    if (this.#file === undefined) return;
    const old = this.#oldContent;
    if (old.kind === 'small') this.#put({ ...old, place: this.#oldPlace(old.digest) });
    else this.#put(old);
  }

  #put(content: MemoContent): void {
    if (this.#file === undefined) return;
    this.#file = undefined;
    const bytes = this.#bytes;
    switch (content.kind) {
      case 'none':
        bytes.byte(contentKinds.none);
        break;
      case 'inline':
        bytes.byte(contentKinds.inline);
        bytes.bytes(content.bytes);
        break;
      case 'small': {
        const { digest, place } = content;
        bytes.byte(place === undefined ? contentKinds.equal : contentKinds.packed);
        bytes.bytes(digest);
        if (place === undefined) break;
        bytes.varint(place.pack);
        bytes.varint(place.offsetBytes / blockSizeBytes);
        break;
      }
      case 'large':
        bytes.byte(contentKinds.large);
        bytes.bytes(content.identity);
        this.#putPieces(content.pieces);
        break;
    }
  }

  #putPieces(pieces: readonly JournalPiece[]): void {
    const bytes = this.#bytes;
    bytes.varint(pieces.length);
    let end = 0;
    for (const { fileOffsetBytes, lengthBytes, plainSizeBytes, key } of pieces) {
      bytes.varint(fileOffsetBytes - end);
      bytes.varint(lengthBytes);
      bytes.varint(plainSizeBytes - lengthBytes);
      bytes.bytes(key);
      end = fileOffsetBytes + lengthBytes;
    }
  }

  /** Where the packer puts the file, by the same rule. */
  #place(digest: Buffer): MemoPlace | undefined {
    if (this.#file === undefined) return undefined;
    const { offsetBytes, endsBefore, endsAfter } = this.#ends.add(this.#file.sizeBytes, digest);
    if (endsBefore) this.#filling = undefined;
    if (this.#filling === undefined) {
      this.#filling = this.#packs.push({ key: digest, plainSizeBytes: 0, files: 0 }) - 1;
      this.#withoutChunk.push(this.#filling);
    }
    const pack = this.#filling;
    this.#packs[pack]!.files++;
    if (endsAfter) this.#filling = undefined;
    return { pack, offsetBytes };
  }

  /** Where the bytes with this digest were put when the old memo was made, if it knows. */
  #oldPlace(digest: Buffer): MemoPlace | undefined {
    const old = this.#oldContent;
    if (old.kind !== 'small' || old.place === undefined || !old.digest.equals(digest))
      return undefined;
    let pack = this.#carried.get(old.place.pack);
    if (pack === undefined) {
      pack = this.#packs.push(this.#old!.packs[old.place.pack]!) - 1;
      this.#carried.set(old.place.pack, pack);
    }
    return { pack, offsetBytes: old.place.offsetBytes };
  }

  #stepOld({ type, sizeBytes }: TarEntry): void {
    if (this.#old === undefined) return;
    try {
      const entry = this.#old.next();
      this.#oldContent = this.#old.content;
      if (entry?.type === type && entry.sizeBytes === sizeBytes) return;
    } catch (error) {
      if (!(error instanceof BadMemo)) throw error;
    }
    this.#old = undefined;
    this.#oldContent = none;
  }
}

function sharedLength(a: string, b: string): number {
  const end = Math.min(a.length, b.length);
  let length = 0;
  while (length < end && a.charCodeAt(length) === b.charCodeAt(length)) length++;
  return length;
}
