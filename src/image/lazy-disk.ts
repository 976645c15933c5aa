/**
 * A recipe and a chunk reader as one random-access disk: a byte range → the segments that hold it →
 * slices of decoded chunks. Answers at once where every chunk is in memory, since a promise a read
 * would cost more than the copy. Chunks are shared: nobody writes to what `read` gives.
 */

import { assert } from '../base/assert.ts';
import { ImgstoreError } from '../base/errors.ts';
import { chunkSizeMaxBytes } from '../base/limits.ts';
import type { Recipe, Segment } from '../recipe/recipe.ts';
import { type ChunkReader, newReadCounters, type ReadCounters } from './chunk-reader.ts';
import type { ReadTrace, TraceRead } from './read-trace.ts';

/** Of one disk. In order, so that few are enough to stay ahead of who reads. */
const prefetchesAtOnceMax = 4;

/** Never written. */
const zeros = Buffer.alloc(chunkSizeMaxBytes);

/** A chunk that could not be had, and where on the disk it stands. */
export interface FailedRange {
  chunkId: string;
  offsetBytes: number;
  lengthBytes: number;
  error: unknown;
}

export interface LazyDiskOptions {
  onFailure?: (failed: FailedRange) => void;
  trace?: TraceRead | undefined;
}

interface Wait {
  startedMs: number;
  trace: ReadTrace | undefined;
  chunks: Promise<void>[];
}

/** A part of a read: of a segment, to be put into a slot of the answer. */
interface Part {
  index: number;
  from: number;
  to: number;
  slot: number;
}

export class LazyDisk {
  readonly sizeBytes: number;
  readonly counters: ReadCounters = newReadCounters();
  readonly #segments: readonly Segment[];
  /** Where each segment starts, and the disk's end. */
  readonly #starts: Float64Array;
  readonly #reader: ChunkReader;
  readonly #trace: TraceRead | undefined;
  #onFailure: ((failed: FailedRange) => void) | undefined;
  /** Why nothing can be read any more. */
  #abandoned: ImgstoreError | undefined;

  constructor(recipe: Recipe, reader: ChunkReader, options: LazyDiskOptions = {}) {
    this.sizeBytes = recipe.diskSizeBytes;
    this.#segments = recipe.segments;
    this.#reader = reader;
    this.#onFailure = options.onFailure;
    this.#trace = options.trace;
    this.#starts = new Float64Array(recipe.segments.length + 1);
    let offset = 0;
    recipe.segments.forEach((segment, index) => {
      this.#starts[index] = offset;
      offset += segment.plainSizeBytes;
    });
    this.#starts[recipe.segments.length] = offset;
    assert(offset === recipe.diskSizeBytes, 'the segments cover the disk');
  }

  /**
   * The bytes of the range as slices in order; a range past the end is cut there.
   * Rejects with the ImgstoreError of the first chunk that cannot be had.
   */
  read(offsetBytes: number, lengthBytes: number): Buffer[] | Promise<Buffer[]> {
    const end = Math.min(offsetBytes + lengthBytes, this.sizeBytes);
    this.counters.reads++;
    if (offsetBytes >= end) {
      this.counters.readTimes.observe(0);
      return [];
    }
    this.counters.bytesRead += end - offsetBytes;
    const slices: Buffer[] = [];
    let wait: Wait | undefined;
    for (let index = this.segmentAt(offsetBytes); index < this.#segments.length; index++) {
      const start = this.#starts[index]!;
      if (start >= end) break;
      const segment = this.#segments[index]!;
      const from = Math.max(offsetBytes - start, 0);
      const to = Math.min(end - start, segment.plainSizeBytes);
      if (segment.kind === 'zero') {
        pushZeros(slices, to - from);
        continue;
      }
      const plain = this.#reader.peek(segment, this.counters);
      if (plain !== undefined) {
        slices.push(plain.subarray(from, to));
        continue;
      }
      if (this.#abandoned !== undefined) return this.#refuse(this.#abandoned);
      const slot = slices.push(zeros) - 1;
      wait ??= this.#wait(offsetBytes, end - offsetBytes);
      wait.chunks.push(this.#fill(slices, { index, from, to, slot }, wait));
    }
    if (wait !== undefined) return this.#filled(slices, wait);
    this.counters.readTimes.observe(0);
    return slices;
  }

  /** The same as one buffer, which the caller must not write to. */
  async readBuffer(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    const slices = await this.read(offsetBytes, lengthBytes);
    return slices.length === 1 ? slices[0]! : Buffer.concat(slices);
  }

  /**
   * Brings the chunks of the first bytes into memory, in order, some at a time, while reads pass
   * them. Never rejects: it ends where chunks cannot be had or there is no room for what nobody waits
   * for, and with `abandon`.
   */
  async prefetch(lengthBytes: number): Promise<void> {
    let next = 0;
    const follow = async () => {
      for (let isWell = true; isWell && this.#abandoned === undefined; ) {
        const index = next++;
        if (index >= this.#segments.length || this.#starts[index]! >= lengthBytes) return;
        const segment = this.#segments[index]!;
        if (segment.kind === 'chunk') isWell = await this.#reader.prefetch(segment, this.counters);
      }
    };
    await Promise.all(Array.from({ length: prefetchesAtOnceMax }, follow));
  }

  /**
   * Nobody waits for it any more: reads under way fail, unless others wait for the same chunk, and so
   * do those that come, unless memory has what they ask for; nothing is prefetched.
   */
  abandon(): void {
    const message = 'Cannot read the disk: it is not mounted any more';
    this.#abandoned = new ImgstoreError('UNAVAILABLE', message);
    this.#onFailure = undefined;
    this.#reader.abandon(this.counters, this.#abandoned);
  }

  /** Index of the segment that holds the offset, which is below sizeBytes. */
  segmentAt(offsetBytes: number): number {
    let low = 0;
    let high = this.#segments.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.#starts[middle]! <= offsetBytes) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  #wait(offsetBytes: number, lengthBytes: number): Wait {
    const trace = this.#trace?.(offsetBytes, lengthBytes);
    return { startedMs: performance.now(), trace, chunks: [] };
  }

  async #refuse(reason: ImgstoreError): Promise<never> {
    this.counters.readErrors++;
    this.counters.readTimes.observe(0);
    throw reason;
  }

  async #filled(slices: Buffer[], { chunks, startedMs, trace }: Wait): Promise<Buffer[]> {
    let failure: unknown;
    try {
      await Promise.all(chunks);
      return slices;
    } catch (error) {
      failure = error;
      this.counters.readErrors++;
      throw error;
    } finally {
      this.counters.readTimes.observe(performance.now() - startedMs);
      trace?.end(failure);
    }
  }

  async #fill(slices: Buffer[], { index, from, to, slot }: Part, { trace }: Wait): Promise<void> {
    const segment = this.#segments[index]!;
    assert(segment.kind === 'chunk', 'only chunks are waited for');
    try {
      const chunk = trace?.chunk(segment.sealedSizeBytes);
      const plain = await this.#reader.read(segment, this.counters, chunk);
      slices[slot] = plain.subarray(from, to);
    } catch (error) {
      const offsetBytes = this.#starts[index]!;
      const lengthBytes = segment.plainSizeBytes;
      this.#onFailure?.({ chunkId: segment.id, offsetBytes, lengthBytes, error });
      throw error;
    }
  }
}

function pushZeros(slices: Buffer[], lengthBytes: number): void {
  for (let left = lengthBytes; left > 0; left -= zeros.length) {
    slices.push(left >= zeros.length ? zeros : zeros.subarray(0, left));
  }
}
