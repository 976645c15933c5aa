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
import type { ChunkSink } from './chunk-uploader.ts';
import type { ContentRecord, DataRegion, Piece } from './data-region.ts';
import { LargeFileCutter } from './large-file.ts';

/** Where a small file lies; filled in when its pack is cut. */
type Place = Piece[];

export class ContentWriter implements ContentSink {
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
    if (this.#region.sizeBytes - this.#receivedBytes > sparseFillMaxBytes) throw tooSparse();
  }

  #endSmall(content: FileContent): void {
    const bytes = this.#small.subarray(0, content.sizeBytes);
    if (bytes.length <= inlineFileSizeMaxBytes) {
      this.#region.record(content, { kind: 'inline', bytes: Buffer.from(bytes) });
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
    const { pieces, identity } = this.#cutter.end();
    const record = this.#records.get(identity) ?? { kind: 'pieces', pieces };
    this.#records.set(identity, record);
    this.#region.record(content, record);
  }

  #emitPack(bytes: Buffer, files: readonly PackedFile<Place>[]): undefined {
    const chunk = this.#region.append(this.#sink.add(bytes));
    for (const { token, offsetBytes, lengthBytes } of files) {
      token.push({ chunk, chunkOffsetBytes: offsetBytes, fileOffsetBytes: 0, lengthBytes });
    }
  }
}

function tooSparse(): ImgstoreError {
  const limit = `${sparseFillMaxBytes / GiB} GiB`;
  return new ImgstoreError(
    'LIMIT',
    `Cannot store the image's sparse files: over ${limit} of zeros lie between their data`,
    { hint: 'Such files are most likely made to fill disks; leave them out if they are not.' },
  );
}
