/**
 * The sink of a push: file contents as they stream by → chunks of the data region.
 *
 * By size: tiny files are kept for the inode's block; small ones are packed with their neighbours;
 * large ones are cut by content from their own start. Equal contents share one place. Nothing of a
 * large file is held but the chunk that is being cut.
 */

import { assert } from '../base/assert.ts';
import { sha256 } from '../base/digest.ts';
import { inlineFileSizeMaxBytes, packedFileSizeMaxBytes } from '../base/limits.ts';
import { FilePacker, type PackedFile } from '../chunk/file-packer.ts';
import type { ContentSink, FileContent } from '../tree/tree.ts';
import type { ChunkUploader } from './chunk-uploader.ts';
import type { ContentRecord, DataRegion, Piece } from './data-region.ts';
import { LargeFileCutter } from './large-file.ts';

/** Where a small file lies; filled in when its pack is cut. */
type Place = Piece[];

export class ContentWriter implements ContentSink {
  readonly #region: DataRegion;
  readonly #uploader: ChunkUploader;
  readonly #packer: FilePacker<Place>;
  readonly #records = new Map<string, ContentRecord>();
  #content: FileContent | undefined;
  #small = Buffer.alloc(0);
  readonly #cutter: LargeFileCutter;
  #isLarge = false;
  /** File position of the next byte that `write` gets; what is skipped reads as zeros. */
  #position = 0;
  #runIndex = 0;
  #runLeft = 0;
  #waits: Promise<unknown>[] = [];
  /** File bytes taken in, holes not counted. */
  contentBytes = 0;

  constructor(region: DataRegion, uploader: ChunkUploader) {
    this.#region = region;
    this.#uploader = uploader;
    this.#cutter = new LargeFileCutter(region, uploader);
    this.#packer = new FilePacker((bytes, files) => this.#emitPack(bytes, files));
  }

  begin(content: FileContent): undefined {
    this.#content = content;
    this.#position = 0;
    this.#runIndex = 0;
    this.#runLeft = 0;
    this.#isLarge = content.sizeBytes >= packedFileSizeMaxBytes;
    if (this.#isLarge) this.#cutter.begin(content.sizeBytes);
    else this.#small = Buffer.alloc(content.sizeBytes);
  }

  write(bytes: Uint8Array): Promise<unknown> | undefined {
    this.contentBytes += bytes.length;
    for (let offset = 0; offset < bytes.length; ) {
      if (this.#runLeft === 0) this.#nextRun();
      const take = Math.min(this.#runLeft, bytes.length - offset);
      this.#take(bytes.subarray(offset, offset + take));
      this.#runLeft -= take;
      this.#position += take;
      offset += take;
    }
    return this.#takeWaits();
  }

  end(): Promise<unknown> | undefined {
    const content = this.#content!;
    assert(this.#runLeft === 0, 'every run of the content was delivered');
    if (this.#isLarge) this.#endLarge(content);
    else this.#endSmall(content);
    this.#content = undefined;
    return this.#takeWaits();
  }

  /** Packs do not reach over layers, so that a layer chunks alike below whatever other layers. */
  layerEnd(): Promise<unknown> | undefined {
    this.#packer.flush();
    return this.#takeWaits();
  }

  #nextRun(): void {
    const { runs, sizeBytes } = this.#content!;
    const run =
      runs === undefined ? { offsetBytes: 0, lengthBytes: sizeBytes } : runs[this.#runIndex];
    assert(run !== undefined && run.offsetBytes >= this.#position, 'runs are in order');
    this.#runIndex++;
    this.#skipTo(run.offsetBytes);
    this.#runLeft = run.lengthBytes;
  }

  #skipTo(positionBytes: number): void {
    if (this.#isLarge) this.#waitFor(this.#cutter.writeZeros(positionBytes - this.#position));
    this.#position = positionBytes;
  }

  #take(bytes: Uint8Array): void {
    if (this.#isLarge) this.#waitFor(this.#cutter.write(bytes));
    else this.#small.set(bytes, this.#position);
  }

  #endSmall(content: FileContent): void {
    const bytes = this.#small;
    if (bytes.length <= inlineFileSizeMaxBytes) {
      this.#region.record(content, { kind: 'inline', bytes });
      return;
    }
    const digest = sha256(bytes);
    const name = digest.toString('latin1');
    let record = this.#records.get(name);
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
    const { pieces, identity, wait } = this.#cutter.end();
    this.#waitFor(wait);
    const record = this.#records.get(identity) ?? { kind: 'pieces', pieces };
    this.#records.set(identity, record);
    this.#region.record(content, record);
  }

  #emitPack(bytes: Buffer, files: readonly PackedFile<Place>[]): undefined {
    const { ticket, wait } = this.#uploader.add(bytes);
    this.#waitFor(wait);
    const chunk = this.#region.append(ticket);
    for (const { token, offsetBytes, lengthBytes } of files) {
      token.push({ chunk, chunkOffsetBytes: offsetBytes, fileOffsetBytes: 0, lengthBytes });
    }
  }

  #waitFor(wait: Promise<unknown> | undefined): void {
    if (wait !== undefined) this.#waits.push(wait);
  }

  #takeWaits(): Promise<unknown> | undefined {
    if (this.#waits.length === 0) return undefined;
    const waits = this.#waits;
    this.#waits = [];
    return Promise.all(waits);
  }
}
