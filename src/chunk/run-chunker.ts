/**
 * Cuts one run of bytes (a large file's data run, a raw disk) by its content, from its own start,
 * so that equal runs give equal chunks wherever they stand. See docs/format/chunk.md.
 *
 * Invariants: the chunks joined are the run and its padding; how the run is split over writes
 * changes nothing; a chunk has at most maxBytes, and at least minBytes unless the run is shorter
 * or the chunk is a tail that does not fit into the one before.
 *
 * A cut stands only once minBytes more of the run have come; if the run ends before that, the tail
 * joins the chunk. Those bytes need no scanning in the next chunk, so waiting for them is free.
 */

import { assert } from '../base/assert.ts';
import { blockSizeBytes } from '../base/limits.ts';
import {
  type ChunkSizes,
  type CutRule,
  cutRule,
  defaultChunkSizes,
  gearTable,
  highMask,
} from './rule.ts';

/** Takes a chunk, which is the receiver's own; a returned promise is back-pressure. */
export type EmitChunk = (bytes: Buffer) => Promise<unknown> | undefined;

export class RunChunker {
  readonly #emit: EmitChunk;
  readonly #rule: CutRule;
  readonly #strictMask: number;
  readonly #looseMask: number;
  /** What is not emitted yet: the chunk that ends at #cutBytes, if any, then the one after it. */
  readonly #held: Buffer;
  #heldBytes = 0;
  #cutBytes = 0;
  #hash = 0;
  #runBytes = 0;

  /** Holds about 1.1 MiB; one chunker may cut any number of runs, one after the other. */
  constructor(emit: EmitChunk, sizes: ChunkSizes = defaultChunkSizes) {
    this.#emit = emit;
    this.#rule = cutRule(sizes);
    this.#strictMask = highMask(this.#rule.strictBits);
    this.#looseMask = highMask(this.#rule.looseBits);
    this.#held = Buffer.allocUnsafeSlow(sizes.maxBytes + sizes.minBytes);
  }

  /**
   * The next bytes of the run. They belong to the caller again when the call, or the promise that
   * it returned, is done; no other call may come before that.
   */
  write(bytes: Uint8Array): Promise<unknown> | undefined {
    let from = 0;
    while (from < bytes.length) {
      from = this.#take(bytes, from);
      const open = this.#heldBytes - this.#cutBytes;
      if (this.#cutBytes === 0 || open < this.#rule.minBytes) continue;
      const wait = this.#emitCut();
      if (wait !== undefined) return wait.then(() => this.write(bytes.subarray(from)));
    }
    return undefined;
  }

  /** Ends the run with zeros up to a multiple of alignBytes, at most a block. */
  end(options: { alignBytes: number }): Promise<unknown> | undefined {
    const { alignBytes } = options;
    assert(alignBytes > 0 && alignBytes <= blockSizeBytes, 'a run is padded to at most a block');
    const paddingBytes = (alignBytes - (this.#runBytes % alignBytes)) % alignBytes;
    const endBytes = this.#heldBytes + paddingBytes;
    this.#held.fill(0, this.#heldBytes, endBytes);
    const cutBytes = endBytes <= this.#rule.maxBytes ? 0 : this.#cutBytes;
    const chunk = cutBytes === 0 ? undefined : copyOf(this.#held.subarray(0, cutBytes));
    const last = copyOf(this.#held.subarray(cutBytes, endBytes));
    this.#heldBytes = this.#cutBytes = this.#hash = this.#runBytes = 0;

    if (last.length === 0) return undefined;
    const wait = chunk === undefined ? undefined : this.#emit(chunk);
    return wait === undefined ? this.#emit(last) : wait.then(() => this.#emit(last));
  }

  /** Takes bytes up to the next place where the rule changes or the chunk ends; returns where. */
  #take(bytes: Uint8Array, from: number): number {
    const { minBytes, switchBytes, forcedBytes } = this.#rule;
    const open = this.#heldBytes - this.#cutBytes;
    const stage = open < minBytes ? minBytes : open < switchBytes ? switchBytes : forcedBytes;
    let to = Math.min(bytes.length, from + stage - open);
    let ends = false;
    if (stage !== minBytes) {
      const found = this.#scan(
        bytes,
        from,
        to,
        stage === switchBytes ? this.#strictMask : this.#looseMask,
      );
      if (found !== -1) to = found;
      ends = found !== -1 || open + to - from === forcedBytes;
    }
    this.#held.set(bytes.subarray(from, to), this.#heldBytes);
    this.#heldBytes += to - from;
    this.#runBytes += to - from;
    if (ends) {
      this.#cutBytes = this.#heldBytes;
      this.#hash = 0;
    }
    return to;
  }

  /** The end of the first byte at which the hash's masked bits are all zero, or -1. */
  #scan(bytes: Uint8Array, from: number, to: number, mask: number): number {
    const table = gearTable;
    let hash = this.#hash;
    for (let at = from; at < to; at++) {
      hash = ((hash << 1) + table[bytes[at]!]!) | 0;
      if ((hash & mask) === 0) return at + 1;
    }
    this.#hash = hash;
    return -1;
  }

  #emitCut(): Promise<unknown> | undefined {
    const chunk = copyOf(this.#held.subarray(0, this.#cutBytes));
    this.#held.copyWithin(0, this.#cutBytes, this.#heldBytes);
    this.#heldBytes -= this.#cutBytes;
    this.#cutBytes = 0;
    return this.#emit(chunk);
  }
}

/** Exactly as large as needed, outside of Node's shared pool: receivers keep chunks for a while. */
function copyOf(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  copy.set(bytes);
  return copy;
}
