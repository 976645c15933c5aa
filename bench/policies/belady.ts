/**
 * Belady's rule, which knows the future: what goes is the chunk that is asked for again the latest,
 * if at all, and that may be the one that came. With chunks of one size no policy hits more; with
 * sizes that differ an optimum is hard to find, and this is the usual measure in its place.
 */

import { Heap } from './lru-2.ts';
import type { Policy, PolicyOptions } from './policy.ts';

export class Belady implements Policy {
  readonly #sizes: Uint32Array;
  readonly #sizeMaxBytes: number;
  /** Of each request: when its chunk is asked for again. */
  readonly #nextUses: Float64Array;
  readonly #nextUse: Float64Array;
  readonly #here: Uint8Array;
  readonly #latest = new Heap();
  #bytes = 0;
  #now = 0;

  constructor({ sizes, sizeMaxBytes }: PolicyOptions, requests: Uint32Array) {
    this.#sizes = sizes;
    this.#sizeMaxBytes = sizeMaxBytes;
    this.#here = new Uint8Array(sizes.length);
    this.#nextUse = new Float64Array(sizes.length).fill(Infinity);
    this.#nextUses = new Float64Array(requests.length);
    for (let at = requests.length - 1; at >= 0; at--) {
      this.#nextUses[at] = this.#nextUse[requests[at]!]!;
      this.#nextUse[requests[at]!] = at;
    }
  }

  request(chunk: number): boolean {
    const hit = this.#here[chunk] === 1;
    const nextUse = this.#nextUses[this.#now++]!;
    this.#nextUse[chunk] = nextUse;
    if (!hit) this.#bytes += this.#sizes[chunk]!;
    this.#here[chunk] = 1;
    this.#latest.push(-nextUse, chunk);
    while (this.#bytes > this.#sizeMaxBytes) {
      const [key, candidate] = this.#latest.pop();
      if (this.#here[candidate] === 0 || this.#nextUse[candidate] !== -key) continue;
      this.#here[candidate] = 0;
      this.#bytes -= this.#sizes[candidate]!;
    }
    return hit;
  }
}
