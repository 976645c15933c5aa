/**
 * The sink of a push: file contents as they stream by → chunks of the data region.
 *
 * By size: tiny files are kept for the inode's block; small ones are packed with their neighbours;
 * large ones are cut by content from their own start. Equal contents share one place. Nothing of a
 * large file is held but the chunk that is being cut.
 */

import { assert } from '../base/assert.ts';
import { sha256 } from '../base/digest.ts';
import { ImgstoreError } from '../base/errors.ts';
import {
  GiB,
  inlineFileSizeMaxBytes,
  packedFileSizeMaxBytes,
  sparseFillMaxBytes,
} from '../base/limits.ts';
import { FilePacker, type PackedFile } from '../chunk/file-packer.ts';
import { holeGranularityBytes } from '../erofs/writer.ts';
import type { ContentSink, DataRun, FileContent } from '../tree/tree.ts';
import type { ChunkSink, ChunkTicket } from './chunk-uploader.ts';
import type { ContentRecord, DataRegion, Piece } from './data-region.ts';
import { LargeFileCutter } from './large-file.ts';
import type { ContentJournal, JournalPiece } from './memo/content-journal.ts';

/** Where a small file lies; filled in when its pack is cut. */
type Place = Piece[];

/** What a writer came to by other means than the bytes: all of a layer. */
export interface Replayed {
  /** To stand in the region behind what is there, in this order. */
  chunks: readonly ChunkTicket[];
  contents: readonly { content: FileContent; record: ContentRecord }[];
  /** New ones, by the names of `recordOf`. */
  records: ReadonlyMap<string, ContentRecord>;
}

export class ContentWriter implements ContentSink {
  /** Is told of every content that is written, if it is set. */
  journal: ContentJournal | undefined;
  readonly #region: DataRegion;
  readonly #sink: ChunkSink;
  readonly #packer: FilePacker<Place>;
  readonly #cutter: LargeFileCutter;
  /** By what tells contents apart: a small one's digest, a large one's identity, which is longer. */
  readonly #records = new Map<string, ContentRecord>();
  #content: FileContent | undefined;
  #isLarge = false;
  /** The small file that is being written, from the start. */
  readonly #small = Buffer.allocUnsafeSlow(packedFileSizeMaxBytes);
  #runs: readonly DataRun[] = [];
  #runIndex = 0;
  #runLeft = 0;
  /** Of the next byte that `write` gets; what is skipped reads as zeros. */
  #position = 0;
  #receivedBytes = 0;

  constructor(region: DataRegion, sink: ChunkSink) {
    this.#region = region;
    this.#sink = sink;
    this.#cutter = new LargeFileCutter(region, sink);
    this.#packer = new FilePacker((bytes, files) => this.#emitPack(bytes, files));
  }

  begin(content: FileContent): undefined {
    assert(this.#content === undefined, 'one content ends before the next begins');
    const { sizeBytes, runs } = content;
    this.#content = content;
    this.#runs = runs ?? [{ offsetBytes: 0, lengthBytes: sizeBytes }];
    this.#runIndex = 0;
    this.#runLeft = 0;
    this.#position = 0;
    this.#isLarge = sizeBytes >= packedFileSizeMaxBytes;
    if (this.#isLarge) {
      this.#cutter.begin({ sizeBytes, windowBytes: holeGranularityBytes(sizeBytes) });
    } else if (runs !== undefined) {
      this.#small.fill(0, 0, sizeBytes);
    }
  }

  write(bytes: Uint8Array): Promise<void> | undefined {
    this.#receivedBytes += bytes.length;
    for (let offset = 0; offset < bytes.length; ) {
      while (this.#runLeft === 0) this.#nextRun();
      const take = Math.min(this.#runLeft, bytes.length - offset);
      const part = bytes.subarray(offset, offset + take);
      if (this.#isLarge) this.#cutter.write(part);
      else this.#small.set(part, this.#position);
      this.#runLeft -= take;
      this.#position += take;
      offset += take;
    }
    return this.#sink.backlog;
  }

  end(): Promise<void> | undefined {
    const content = this.#content;
    assert(content !== undefined, 'a content that ends has begun');
    while (this.#runLeft === 0 && this.#runIndex < this.#runs.length) this.#nextRun();
    assert(this.#runLeft === 0, 'every run of the content was delivered');
    if (this.#isLarge) this.#endLarge(content);
    else this.#endSmall(content);
    this.#content = undefined;
    return this.#sink.backlog;
  }

  /** Packs do not reach over layers, so that a layer chunks alike below whatever other layers. */
  layerEnd(): Promise<void> | undefined {
    this.#packer.flush();
    return this.#sink.backlog;
  }

  /** Where the content of this name lies: see #records. */
  recordOf(name: string): ContentRecord | undefined {
    return this.#records.get(name);
  }

  /** Between layers. */
  adopt({ chunks, contents, records }: Replayed): void {
    assert(this.#content === undefined, 'nothing is being written');
    for (const ticket of chunks) this.#region.append(ticket);
    for (const { content, record } of contents) {
      this.#region.record(content, record);
      this.#receivedBytes += storedBytes(content);
    }
    for (const [name, record] of records) this.#records.set(name, record);
  }

  /** Zeros that were stored for holes, and what padding there is. */
  get fillBytes(): number {
    return this.#region.sizeBytes - this.#receivedBytes;
  }

  #nextRun(): void {
    const run = this.#runs[this.#runIndex++];
    assert(run !== undefined, 'no more is delivered than the runs hold');
    this.#skipTo(run.offsetBytes);
    this.#runLeft = run.lengthBytes;
  }

  #skipTo(positionBytes: number): void {
    assert(positionBytes >= this.#position, 'runs are in order');
    if (this.#isLarge) this.#cutter.writeZeros(positionBytes - this.#position);
    this.#position = positionBytes;
    if (this.fillBytes > sparseFillMaxBytes) throw tooSparse();
  }

  #endSmall(content: FileContent): void {
    const bytes = this.#small.subarray(0, content.sizeBytes);
    if (bytes.length <= inlineFileSizeMaxBytes) {
      this.#region.record(content, { kind: 'inline', bytes: Buffer.from(bytes) });
      this.journal?.inline(bytes);
      return;
    }
    const digest = sha256(bytes);
    const name = digest.toString('latin1');
    let record = this.#records.get(name);
    this.journal?.small(digest, { isPacked: record === undefined });
    if (record === undefined) {
      const pieces: Place = [];
      record = { kind: 'pieces', pieces };
      this.#records.set(name, record);
      this.#packer.add(pieces, bytes, digest);
    }
    this.#region.record(content, record);
  }

  #endLarge(content: FileContent): void {
    this.#skipTo(content.sizeBytes);
    const { pieces, identity } = this.#cutter.end();
    const record = this.#records.get(identity) ?? { kind: 'pieces', pieces };
    this.#records.set(identity, record);
    this.#region.record(content, record);
    this.journal?.large(
      identity,
      pieces.map(piece => this.#journalPiece(piece)),
    );
  }

  #journalPiece({ chunk, fileOffsetBytes, lengthBytes }: Piece): JournalPiece {
    const { key, plainSizeBytes } = this.#region.chunk(chunk);
    return { fileOffsetBytes, lengthBytes, key, plainSizeBytes };
  }

  #emitPack(bytes: Buffer, files: readonly PackedFile<Place>[]): undefined {
    const ticket = this.#sink.add(bytes);
    const chunk = this.#region.append(ticket);
    this.journal?.pack(ticket);
    for (const { token, offsetBytes, lengthBytes } of files) {
      token.push({ chunk, chunkOffsetBytes: offsetBytes, fileOffsetBytes: 0, lengthBytes });
    }
  }
}

/** What a source delivers of it. */
export function storedBytes({ sizeBytes, runs }: FileContent): number {
  return runs === undefined ? sizeBytes : runs.reduce((sum, run) => sum + run.lengthBytes, 0);
}

function tooSparse(): ImgstoreError {
  const limit = `${sparseFillMaxBytes / GiB} GiB`;
  return new ImgstoreError(
    'LIMIT',
    `Cannot store the image's sparse files: over ${limit} of zeros lie between their data`,
    { hint: 'Such files are most likely made to fill disks; leave them out if they are not.' },
  );
}
