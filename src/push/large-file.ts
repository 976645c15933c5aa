/**
 * Large files, one after the other, on their way into the data region: each is cut by content from
 * the start of each of its data runs.
 *
 * A run is a stretch of windows (holeGranularityBytes each, from the file's start) that are not all
 * zero; all-zero windows are holes, which cost no chunk. Whether a window is one is known only at
 * its end, so leading zeros are counted, not kept, and fed late if data follows.
 */

import { createHash } from 'node:crypto';
import { blockSizeBytes, chunkSizeMaxBytes } from '../base/limits.ts';
import { RunChunker } from '../chunk/run-chunker.ts';
import { isZero } from '../chunk/zero.ts';
import { holeGranularityBytes } from '../erofs/writer.ts';
import type { ChunkTicket, ChunkUploader } from './chunk-uploader.ts';
import type { DataRegion, Piece } from './data-region.ts';

const zeros = Buffer.alloc(chunkSizeMaxBytes);

interface Run {
  startBytes: number;
  fedBytes: number;
  emittedBytes: number;
}

export class LargeFileCutter {
  readonly #region: DataRegion;
  readonly #uploader: ChunkUploader;
  readonly #chunker = new RunChunker(bytes => this.#emit(bytes));
  #waits: Promise<void>[] = [];
  #pieces: Piece[] = [];
  #identity = createHash('sha256');
  #sizeBytes = 0;
  #windowBytes = 0;
  #position = 0;
  #windowStart = 0;
  #windowEnd = 0;
  #windowHasData = false;
  #leadingZeros = 0;
  #run: Run | undefined;

  constructor(region: DataRegion, uploader: ChunkUploader) {
    this.#region = region;
    this.#uploader = uploader;
  }

  begin(sizeBytes: number): void {
    this.#pieces = [];
    this.#identity = createHash('sha256').update(`${sizeBytes}\n`);
    this.#sizeBytes = sizeBytes;
    this.#windowBytes = holeGranularityBytes(sizeBytes);
    this.#position = 0;
    this.#openWindow();
  }

  get position(): number {
    return this.#position;
  }

  /** The next bytes of the file; a promise is back-pressure. */
  write(bytes: Uint8Array): Promise<unknown> | undefined {
    let offset = 0;
    while (offset < bytes.length) {
      const take = Math.min(bytes.length - offset, this.#windowEnd - this.#position);
      const slice = bytes.subarray(offset, offset + take);
      if (!this.#windowHasData && isZero(slice)) this.#leadingZeros += take;
      else this.#feed(slice);
      this.#advance(take);
      offset += take;
    }
    return this.#takeWaits();
  }

  /** The next bytes are zeros, however many: a gap of a sparse file. */
  writeZeros(lengthBytes: number): Promise<unknown> | undefined {
    for (let left = lengthBytes; left > 0; ) {
      const take = Math.min(left, this.#windowEnd - this.#position);
      if (this.#windowHasData) this.#feedZeros(take);
      else this.#leadingZeros += take;
      this.#advance(take);
      left -= take;
    }
    return this.#takeWaits();
  }

  /** Ends the file. `identity` is equal for files of equal size and content. */
  end(): { pieces: Piece[]; identity: string; wait: Promise<unknown> | undefined } {
    this.#endRun();
    const identity = this.#identity.digest('hex');
    return { pieces: this.#pieces, identity, wait: this.#takeWaits() };
  }

  #openWindow(): void {
    this.#windowStart = this.#position;
    this.#windowEnd = Math.min(this.#position + this.#windowBytes, this.#sizeBytes);
    this.#windowHasData = false;
    this.#leadingZeros = 0;
  }

  #advance(lengthBytes: number): void {
    this.#position += lengthBytes;
    if (this.#position < this.#windowEnd) return;
    if (!this.#windowHasData) this.#endRun();
    this.#openWindow();
  }

  #feed(bytes: Uint8Array): void {
    this.#run ??= { startBytes: this.#windowStart, fedBytes: 0, emittedBytes: 0 };
    if (!this.#windowHasData) {
      this.#windowHasData = true;
      this.#feedZeros(this.#leadingZeros);
    }
    this.#run.fedBytes += bytes.length;
    this.#chunker.write(bytes);
  }

  #feedZeros(lengthBytes: number): void {
    for (let left = lengthBytes; left > 0; left -= zeros.length) {
      this.#feed(left >= zeros.length ? zeros : zeros.subarray(0, left));
    }
  }

  #endRun(): void {
    const run = this.#run;
    if (run === undefined) return;
    this.#chunker.end({ alignBytes: blockSizeBytes });
    const last = this.#pieces.at(-1);
    // What was emitted past what was fed is the padding of the last block.
    if (last !== undefined) last.lengthBytes -= run.emittedBytes - run.fedBytes;
    this.#run = undefined;
  }

  /** Never makes the chunker wait: `write` takes at most one buffer before its caller waits. */
  #emit(bytes: Buffer): undefined {
    const run = this.#run!;
    const { ticket, wait } = this.#uploader.add(bytes);
    if (wait !== undefined) this.#waits.push(wait);
    const fileOffsetBytes = run.startBytes + run.emittedBytes;
    this.#recordPiece(ticket, fileOffsetBytes, bytes.length);
    run.emittedBytes += bytes.length;
  }

  #recordPiece(ticket: ChunkTicket, fileOffsetBytes: number, lengthBytes: number): void {
    const chunk = this.#region.append(ticket);
    this.#pieces.push({ chunk, chunkOffsetBytes: 0, fileOffsetBytes, lengthBytes });
    this.#identity.update(`${fileOffsetBytes} ${ticket.key.toString('hex')}\n`);
  }

  #takeWaits(): Promise<unknown> | undefined {
    if (this.#waits.length === 0) return undefined;
    const waits = this.#waits;
    this.#waits = [];
    return Promise.all(waits);
  }
}
