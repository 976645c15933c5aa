/**
 * Large files, one after the other, on their way into the data region: each is cut by content from
 * the start of each of its data runs.
 *
 * A run is a stretch of windows, counted from the file's start, that are not all zero; all-zero
 * windows are holes, which cost no chunk. Whether a window is one is known only at its end, so
 * leading zeros are counted, not kept, and fed late if data follows. How the file is split over
 * writes changes nothing.
 *
 * Nothing waits in here: what a call cuts is about what it was given, and the zeros of a gap are one
 * distinct chunk however many they are. The caller looks at the sink's backlog between calls.
 */

import { createHash } from 'node:crypto';
import { assert } from '../base/assert.ts';
import { blockSizeBytes, chunkSizeMaxBytes } from '../base/limits.ts';
import { RunChunker } from '../chunk/run-chunker.ts';
import { isZero } from '../chunk/zero.ts';
import type { ChunkSink } from './chunk-uploader.ts';
import type { DataRegion, Piece } from './data-region.ts';

/** Never written. */
const zeros = Buffer.alloc(chunkSizeMaxBytes);

interface Run {
  startBytes: number;
  fedBytes: number;
  emittedBytes: number;
}

export class LargeFileCutter {
  readonly #region: DataRegion;
  readonly #sink: ChunkSink;
  readonly #chunker = new RunChunker(bytes => this.#emit(bytes));
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

  constructor(region: DataRegion, sink: ChunkSink) {
    this.#region = region;
    this.#sink = sink;
  }

  /** `windowBytes` is a multiple of the block size. */
  begin({ sizeBytes, windowBytes }: { sizeBytes: number; windowBytes: number }): void {
    assert(windowBytes > 0 && windowBytes % blockSizeBytes === 0, 'a window is whole blocks');
    this.#pieces = [];
    this.#identity = createHash('sha256').update(`${sizeBytes}\n`);
    this.#sizeBytes = sizeBytes;
    this.#windowBytes = windowBytes;
    this.#position = 0;
    this.#openWindow();
  }

  /** Of the next byte of the file. */
  get position(): number {
    return this.#position;
  }

  /** The next bytes of the file; they are the caller's own again when the call returns. */
  write(bytes: Uint8Array): void {
    assert(this.#position + bytes.length <= this.#sizeBytes, 'a file has no more than its size');
    for (let offset = 0; offset < bytes.length; ) {
      const take = Math.min(bytes.length - offset, this.#windowEnd - this.#position);
      const slice = bytes.subarray(offset, offset + take);
      if (!this.#windowHasData && isZero(slice)) this.#leadingZeros += take;
      else this.#feed(slice);
      this.#advance(take);
      offset += take;
    }
  }

  /** The next bytes are zeros, however many: a gap of a sparse file. */
  writeZeros(lengthBytes: number): void {
    assert(this.#position + lengthBytes <= this.#sizeBytes, 'a file has no more than its size');
    for (let left = lengthBytes; left > 0; ) {
      const take = Math.min(left, this.#windowEnd - this.#position);
      if (this.#windowHasData) this.#feedZeros(take);
      else this.#leadingZeros += take;
      this.#advance(take);
      left -= take;
    }
  }

  /** Ends the file. `identity` is equal for files of equal size and content. */
  end(): { pieces: Piece[]; identity: string } {
    assert(this.#position === this.#sizeBytes, 'all of the file was written');
    this.#endRun();
    return { pieces: this.#pieces, identity: this.#identity.digest('hex') };
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
    // What was emitted past what was fed is the padding of the last block.
    this.#pieces.at(-1)!.lengthBytes -= run.emittedBytes - run.fedBytes;
    this.#run = undefined;
  }

  #emit(bytes: Buffer): undefined {
    const run = this.#run!;
    const ticket = this.#sink.add(bytes);
    const fileOffsetBytes = run.startBytes + run.emittedBytes;
    const chunk = this.#region.append(ticket);
    const lengthBytes = ticket.plainSizeBytes; // the buffer is the sink's now
    this.#pieces.push({ chunk, chunkOffsetBytes: 0, fileOffsetBytes, lengthBytes });
    this.#identity.update(`${fileOffsetBytes} ${ticket.key.toString('hex')}\n`);
    run.emittedBytes += lengthBytes;
  }
}
