/** Segmented LRU: a second use moves a chunk to the protected four fifths. It remembers no victim. */

import { ChunkQueue, type Policy, type PolicyOptions } from './policy.ts';

const protectedShare = 0.8;

export class Slru implements Policy {
  readonly #probation: ChunkQueue;
  readonly #protected: ChunkQueue;
  readonly #sizeMaxBytes: number;

  constructor({ sizes, sizeMaxBytes }: PolicyOptions) {
    this.#probation = new ChunkQueue(sizes);
    this.#protected = new ChunkQueue(sizes);
    this.#sizeMaxBytes = sizeMaxBytes;
  }

  request(chunk: number): boolean {
    const [probation, kept] = [this.#probation, this.#protected];
    if (kept.has(chunk)) {
      kept.renew(chunk);
      return true;
    }
    const hit = probation.has(chunk);
    if (hit) {
      probation.remove(chunk);
      kept.push(chunk);
      while (kept.bytes > protectedShare * this.#sizeMaxBytes) probation.push(kept.shift());
    } else {
      probation.push(chunk);
    }
    while (probation.bytes + kept.bytes > this.#sizeMaxBytes) {
      (probation.oldest === undefined ? kept : probation).shift();
    }
    return hit;
  }
}
