/** Eviction policies to compare with the worker's cache: small, over the chunks of one trace. */

export interface Policy {
  /** A request for a chunk: true if it was there. If it was not, it is now, or was not admitted. */
  request(chunk: number): boolean;
}

export interface PolicyOptions {
  /** Of each chunk, on the disk. */
  sizes: Uint32Array;
  sizeMaxBytes: number;
}

const none = -1;

/** A queue of chunks that knows its bytes. Every operation takes constant time. */
export class ChunkQueue {
  bytes = 0;
  readonly #sizes: Uint32Array;
  readonly #newer: Int32Array;
  readonly #older: Int32Array;
  readonly #here: Uint8Array;
  #newest = none;
  #oldest = none;

  constructor(sizes: Uint32Array) {
    this.#sizes = sizes;
    this.#newer = new Int32Array(sizes.length);
    this.#older = new Int32Array(sizes.length);
    this.#here = new Uint8Array(sizes.length);
  }

  has(chunk: number): boolean {
    return this.#here[chunk] === 1;
  }

  get oldest(): number | undefined {
    return this.#oldest === none ? undefined : this.#oldest;
  }

  push(chunk: number): void {
    this.#here[chunk] = 1;
    this.bytes += this.#sizes[chunk]!;
    this.#older[chunk] = this.#newest;
    this.#newer[chunk] = none;
    if (this.#newest === none) this.#oldest = chunk;
    else this.#newer[this.#newest] = chunk;
    this.#newest = chunk;
  }

  remove(chunk: number): void {
    if (!this.has(chunk)) return;
    this.#here[chunk] = 0;
    this.bytes -= this.#sizes[chunk]!;
    const [newer, older] = [this.#newer[chunk]!, this.#older[chunk]!];
    if (newer === none) this.#newest = older;
    else this.#older[newer] = older;
    if (older === none) this.#oldest = newer;
    else this.#newer[older] = newer;
  }

  /** Takes out the oldest; there is one. */
  shift(): number {
    const chunk = this.#oldest;
    this.remove(chunk);
    return chunk;
  }

  renew(chunk: number): void {
    this.remove(chunk);
    this.push(chunk);
  }
}
