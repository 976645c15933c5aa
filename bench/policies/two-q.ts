/**
 * 2Q (Johnson, Shasha 1994), with its authors' shares: a quarter is a queue of new chunks, whose
 * victims are remembered for half a cache; one that is asked for while remembered is long-lived.
 */

import { ChunkQueue, type Policy, type PolicyOptions } from './policy.ts';

const newShare = 0.25;
const rememberedShare = 0.5;

export class TwoQ implements Policy {
  readonly #new: ChunkQueue;
  readonly #remembered: ChunkQueue;
  readonly #long: ChunkQueue;
  readonly #sizeMaxBytes: number;

  constructor({ sizes, sizeMaxBytes }: PolicyOptions) {
    this.#new = new ChunkQueue(sizes);
    this.#remembered = new ChunkQueue(sizes);
    this.#long = new ChunkQueue(sizes);
    this.#sizeMaxBytes = sizeMaxBytes;
  }

  request(chunk: number): boolean {
    if (this.#new.has(chunk)) return true;
    if (this.#long.has(chunk)) {
      this.#long.renew(chunk);
      return true;
    }
    if (this.#remembered.has(chunk)) {
      this.#remembered.remove(chunk);
      this.#long.push(chunk);
    } else {
      this.#new.push(chunk);
    }
    while (this.#new.bytes + this.#long.bytes > this.#sizeMaxBytes) this.#evict();
    return false;
  }

  #evict(): void {
    if (this.#new.bytes <= newShare * this.#sizeMaxBytes && this.#long.oldest !== undefined) {
      this.#long.shift();
      return;
    }
    this.#remembered.push(this.#new.shift());
    while (this.#remembered.bytes > rememberedShare * this.#sizeMaxBytes) this.#remembered.shift();
  }
}
