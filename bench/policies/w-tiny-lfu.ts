/**
 * W-TinyLFU (Einziger, Friedman, Manes 2017): a window of 1 %, and a segmented LRU that a chunk from
 * the window enters only if it was used more often lately than each chunk that would go for it. The
 * uses are counted exactly, up to 15, and halved after as many requests as ten caches have chunks;
 * the original estimates them in a sketch.
 */

import { ChunkQueue, type Policy, type PolicyOptions } from './policy.ts';

const windowShare = 0.01;
const protectedShare = 0.8;
const usesMax = 15;

export class WTinyLfu implements Policy {
  readonly #window: ChunkQueue;
  readonly #probation: ChunkQueue;
  readonly #protected: ChunkQueue;
  readonly #uses: Uint8Array;
  readonly #sizes: Uint32Array;
  readonly #windowMaxBytes: number;
  readonly #mainMaxBytes: number;
  readonly #halveAfter: number;
  #requests = 0;

  constructor({ sizes, sizeMaxBytes }: PolicyOptions) {
    this.#window = new ChunkQueue(sizes);
    this.#probation = new ChunkQueue(sizes);
    this.#protected = new ChunkQueue(sizes);
    this.#uses = new Uint8Array(sizes.length);
    this.#sizes = sizes;
    this.#windowMaxBytes = windowShare * sizeMaxBytes;
    this.#mainMaxBytes = sizeMaxBytes - this.#windowMaxBytes;
    const mean = sizes.reduce((sum, size) => sum + size, 0) / sizes.length;
    this.#halveAfter = (10 * sizeMaxBytes) / mean;
  }

  request(chunk: number): boolean {
    this.#count(chunk);
    if (this.#window.has(chunk)) {
      this.#window.renew(chunk);
      return true;
    }
    if (this.#protected.has(chunk)) {
      this.#protected.renew(chunk);
      return true;
    }
    if (this.#probation.has(chunk)) {
      this.#probation.remove(chunk);
      this.#protected.push(chunk);
      while (this.#protected.bytes > protectedShare * this.#mainMaxBytes) {
        this.#probation.push(this.#protected.shift());
      }
      return true;
    }
    this.#window.push(chunk);
    while (this.#window.bytes > this.#windowMaxBytes) this.#admit(this.#window.shift());
    return false;
  }

  #count(chunk: number): void {
    this.#uses[chunk] = Math.min(usesMax, this.#uses[chunk]! + 1);
    if (++this.#requests < this.#halveAfter) return;
    this.#requests = 0;
    for (const [at, uses] of this.#uses.entries()) this.#uses[at] = uses >> 1;
  }

  #admit(chunk: number): void {
    const needed = this.#sizes[chunk]!;
    while (this.#probation.bytes + this.#protected.bytes + needed > this.#mainMaxBytes) {
      const queue = this.#probation.oldest === undefined ? this.#protected : this.#probation;
      if (queue.oldest === undefined || this.#uses[chunk]! <= this.#uses[queue.oldest]!) return;
      queue.shift();
    }
    this.#probation.push(chunk);
  }
}
