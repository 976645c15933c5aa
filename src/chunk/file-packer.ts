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

/**
 * Where packs end. It sees sizes and digests alone, so who knows those of a layer's files can tell
 * its packs without their bytes.
 */
export class PackEnds {
  readonly #rule: CutRule;
  #heldBytes = 0;

  constructor(sizes: ChunkSizes = defaultChunkSizes) {
    this.#rule = cutRule(sizes);
  }

  /** The next file: where it lies in its pack, and whether a pack ends before or after it. */
  add(
    lengthBytes: number,
    digest: Uint8Array,
  ): { offsetBytes: number; endsBefore: boolean; endsAfter: boolean } {
    const sizeBytes = Math.ceil(lengthBytes / blockSizeBytes) * blockSizeBytes;
    const endsBefore = this.#heldBytes + sizeBytes > this.#rule.maxBytes;
    const offsetBytes = endsBefore ? 0 : this.#heldBytes;
    this.#heldBytes = offsetBytes + sizeBytes;
    const endsAfter = this.#endsAfter(sizeBytes, digest);
    if (endsAfter) this.#heldBytes = 0;
    return { offsetBytes, endsBefore, endsAfter };
  }

  /** The pack ends here, whatever is in it. */
  end(): void {
    this.#heldBytes = 0;
  }

  #endsAfter(fileSizeBytes: number, digest: Uint8Array): boolean {
    const { minBytes, switchBytes, strictBits, looseBits } = this.#rule;
    if (this.#heldBytes < minBytes) return false;
    const bits = this.#heldBytes < switchBytes ? strictBits : looseBits;
    const draw = Buffer.from(digest.buffer, digest.byteOffset, 4).readUInt32BE(0);
    return draw < fileSizeBytes * 2 ** (32 - bits);
  }
}

interface Pack<Token> {
  bytes: Buffer;
  files: PackedFile<Token>[];
}

export class FilePacker<Token> {
  readonly #emit: EmitPack<Token>;
  readonly #ends: PackEnds;
  readonly #held: Buffer;
  #heldBytes = 0;
  #files: PackedFile<Token>[] = [];

  constructor(emit: EmitPack<Token>, sizes: ChunkSizes = defaultChunkSizes) {
    this.#emit = emit;
    this.#ends = new PackEnds(sizes);
    this.#held = Buffer.allocUnsafeSlow(sizes.maxBytes);
  }

  /**
   * The next file, of 1 to maxBytes bytes, with the SHA-256 of its bytes. The bytes are the
   * caller's own again when the call returns; the next call waits for the promise, if any.
   */
  add(token: Token, bytes: Uint8Array, digest: Uint8Array): Promise<unknown> | undefined {
    assert(bytes.length > 0 && bytes.length <= this.#held.length, 'a packed file fits a chunk');
    assert(digest.length === 32, 'a packed file comes with its SHA-256');
    const { offsetBytes, endsBefore, endsAfter } = this.#ends.add(bytes.length, digest);

    const full = endsBefore ? this.#take() : undefined;
    const endBytes = offsetBytes + Math.ceil(bytes.length / blockSizeBytes) * blockSizeBytes;
    this.#files.push({ token, offsetBytes, lengthBytes: bytes.length });
    this.#held.set(bytes, offsetBytes);
    this.#held.fill(0, offsetBytes + bytes.length, endBytes);
    this.#heldBytes = endBytes;
    const ended = endsAfter ? this.#take() : undefined;

    const wait = full === undefined ? undefined : this.#emit(full.bytes, full.files);
    if (ended === undefined) return wait;
    if (wait === undefined) return this.#emit(ended.bytes, ended.files);
    return wait.then(() => this.#emit(ended.bytes, ended.files));
  }

  /** Emits what is there, if anything. */
  flush(): Promise<unknown> | undefined {
    if (this.#files.length === 0) return undefined;
    this.#ends.end();
    const { bytes, files } = this.#take();
    return this.#emit(bytes, files);
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
