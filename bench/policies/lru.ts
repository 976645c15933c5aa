/** Least recently used: what any better policy has to beat. */

import { ChunkQueue, type Policy, type PolicyOptions } from './policy.ts';

export class Lru implements Policy {
  readonly #queue: ChunkQueue;
  readonly #sizeMaxBytes: number;

  constructor({ sizes, sizeMaxBytes }: PolicyOptions) {
    this.#queue = new ChunkQueue(sizes);
    this.#sizeMaxBytes = sizeMaxBytes;
  }

  request(chunk: number): boolean {
    const hit = this.#queue.has(chunk);
    this.#queue.renew(chunk);
    while (this.#queue.bytes > this.#sizeMaxBytes) this.#queue.shift();
    return hit;
  }
}
