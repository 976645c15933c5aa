/**
 * S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi 2023): a small queue of new chunks, a main queue, and the
 * memory of the small one's victims. A use only counts; what was used moves on when its turn comes.
 */

import { ChunkQueue, type Policy, type PolicyOptions } from './policy.ts';

const smallShare = 0.1;
const usesMax = 3;

export class S3Fifo implements Policy {
  readonly #small: ChunkQueue;
  readonly #main: ChunkQueue;
  readonly #ghosts: ChunkQueue;
  readonly #uses: Uint8Array;
  readonly #sizeMaxBytes: number;

  constructor({ sizes, sizeMaxBytes }: PolicyOptions) {
    this.#small = new ChunkQueue(sizes);
    this.#main = new ChunkQueue(sizes);
    this.#ghosts = new ChunkQueue(sizes);
    this.#uses = new Uint8Array(sizes.length);
    this.#sizeMaxBytes = sizeMaxBytes;
  }

  request(chunk: number): boolean {
    if (this.#small.has(chunk) || this.#main.has(chunk)) {
      this.#uses[chunk] = Math.min(usesMax, this.#uses[chunk]! + 1);
      return true;
    }
    this.#uses[chunk] = 0;
    if (this.#ghosts.has(chunk)) {
      this.#ghosts.remove(chunk);
      this.#main.push(chunk);
    } else {
      this.#small.push(chunk);
    }
    while (this.#small.bytes + this.#main.bytes > this.#sizeMaxBytes) this.#evict();
    return false;
  }

  #evict(): void {
    const fromSmall = this.#small.bytes > smallShare * this.#sizeMaxBytes;
    if (!fromSmall && this.#main.oldest !== undefined) {
      const chunk = this.#main.shift();
      if (this.#uses[chunk]! === 0) return;
      this.#uses[chunk]!--;
      this.#main.push(chunk);
      return;
    }
    const chunk = this.#small.shift();
    if (this.#uses[chunk]! > 1) {
      this.#uses[chunk] = 0;
      this.#main.push(chunk);
      return;
    }
    this.#ghosts.push(chunk);
    while (this.#ghosts.bytes > (1 - smallShare) * this.#sizeMaxBytes) this.#ghosts.shift();
  }
}
