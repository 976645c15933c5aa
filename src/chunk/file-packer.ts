/**
 * Packs small files into chunks, each file from a block's start, cut between files only. See
 * docs/format/chunk.md.
 *
 * Whether a pack ends after a file depends on that file's digest and on the pack's size, so that a
 * file that is added, changed or removed changes the packs around it and no others. The chance is
 * the file's size in blocks times the rate per byte of the rule for runs: whatever the sizes of
 * the files, packs come out as large as the chunks of runs.
 *
 * Invariants: a pack is whole blocks, at most maxBytes; gaps between files are zeros; no file is
 * in two packs.
 */

import { assert } from '../base/assert.ts';
import { blockSizeBytes } from '../base/limits.ts';
import { type ChunkSizes, type CutRule, cutRule, defaultChunkSizes } from './rule.ts';

export interface PackedFile<Token> {
  /** What the caller gave. */
  token: Token;
  /** In the chunk; a multiple of the block size. */
  offsetBytes: number;
  lengthBytes: number;
}

/** Takes a pack, which is the receiver's own; a returned promise is back-pressure. */
export type EmitPack<Token> = (
  bytes: Buffer,
  files: readonly PackedFile<Token>[],
) => Promise<unknown> | undefined;

interface Pack<Token> {
  bytes: Buffer;
  files: PackedFile<Token>[];
}

export class FilePacker<Token> {
  readonly #emit: EmitPack<Token>;
  readonly #rule: CutRule;
  readonly #held: Buffer;
  #heldBytes = 0;
  #files: PackedFile<Token>[] = [];

  constructor(emit: EmitPack<Token>, sizes: ChunkSizes = defaultChunkSizes) {
    this.#emit = emit;
    this.#rule = cutRule(sizes);
    this.#held = Buffer.allocUnsafeSlow(sizes.maxBytes);
  }

  /**
   * The next file, of 1 to maxBytes bytes, with the SHA-256 of its bytes. The bytes are the
   * caller's own again when the call returns; the next call waits for the promise, if any.
   */
  add(token: Token, bytes: Uint8Array, digest: Uint8Array): Promise<unknown> | undefined {
    assert(bytes.length > 0 && bytes.length <= this.#rule.maxBytes, 'a packed file fits a chunk');
    assert(digest.length === 32, 'a packed file comes with its SHA-256');
    const sizeBytes = Math.ceil(bytes.length / blockSizeBytes) * blockSizeBytes;

    const full = this.#heldBytes + sizeBytes > this.#rule.maxBytes ? this.#take() : undefined;
    this.#files.push({ token, offsetBytes: this.#heldBytes, lengthBytes: bytes.length });
    this.#held.set(bytes, this.#heldBytes);
    this.#held.fill(0, this.#heldBytes + bytes.length, this.#heldBytes + sizeBytes);
    this.#heldBytes += sizeBytes;
    const ended = this.#endsAfter(sizeBytes, digest) ? this.#take() : undefined;

    const wait = full === undefined ? undefined : this.#emit(full.bytes, full.files);
    if (ended === undefined) return wait;
    if (wait === undefined) return this.#emit(ended.bytes, ended.files);
    return wait.then(() => this.#emit(ended.bytes, ended.files));
  }

  /** Emits what is there, if anything. */
  flush(): Promise<unknown> | undefined {
    if (this.#files.length === 0) return undefined;
    const { bytes, files } = this.#take();
    return this.#emit(bytes, files);
  }

  #endsAfter(fileSizeBytes: number, digest: Uint8Array): boolean {
    const { minBytes, switchBytes, strictBits, looseBits } = this.#rule;
    if (this.#heldBytes < minBytes) return false;
    const bits = this.#heldBytes < switchBytes ? strictBits : looseBits;
    const draw = Buffer.from(digest.buffer, digest.byteOffset, 4).readUInt32BE(0);
    return draw < fileSizeBytes * 2 ** (32 - bits);
  }

  #take(): Pack<Token> {
    const bytes = Buffer.allocUnsafeSlow(this.#heldBytes);
    bytes.set(this.#held.subarray(0, this.#heldBytes));
    const files = this.#files;
    this.#heldBytes = 0;
    this.#files = [];
    return { bytes, files };
  }
}
