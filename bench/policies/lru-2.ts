/**
 * LRU-2 (O'Neil, O'Neil, Weikum 1993): what goes is the chunk whose use before the last is longest
 * ago; those used once go before, the least recent first. The last two uses of every chunk are
 * remembered for ever, which no cache could afford: this is the policy at its best.
 */

import { ChunkQueue, type Policy, type PolicyOptions } from './policy.ts';

export class Lru2 implements Policy {
  readonly #once: ChunkQueue;
  readonly #twice: Heap;
  readonly #sizes: Uint32Array;
  readonly #sizeMaxBytes: number;
  readonly #last: Float64Array;
  readonly #beforeLast: Float64Array;
  readonly #here: Uint8Array;
  #bytes = 0;
  #now = 0;

  constructor({ sizes, sizeMaxBytes }: PolicyOptions) {
    this.#sizes = sizes;
    this.#sizeMaxBytes = sizeMaxBytes;
    this.#once = new ChunkQueue(sizes);
    this.#last = new Float64Array(sizes.length);
    this.#beforeLast = new Float64Array(sizes.length);
    this.#here = new Uint8Array(sizes.length);
    this.#twice = new Heap();
  }

  request(chunk: number): boolean {
    const hit = this.#here[chunk] === 1;
    if (!hit) this.#bytes += this.#sizes[chunk]!;
    this.#here[chunk] = 1;
    this.#beforeLast[chunk] = this.#last[chunk]!;
    this.#last[chunk] = ++this.#now;
    if (this.#beforeLast[chunk] === 0) {
      this.#once.push(chunk);
    } else {
      this.#once.remove(chunk);
      this.#twice.push(this.#beforeLast[chunk]!, chunk);
    }
    while (this.#bytes > this.#sizeMaxBytes) this.#evict();
    return hit;
  }

  #evict(): void {
    const chunk = this.#once.oldest === undefined ? this.#oldestOfTwice() : this.#once.shift();
    this.#here[chunk] = 0;
    this.#bytes -= this.#sizes[chunk]!;
  }

  /** The heap keeps what was true at earlier uses as well; that is passed over. */
  #oldestOfTwice(): number {
    for (;;) {
      const [time, chunk] = this.#twice.pop();
      if (this.#here[chunk] === 1 && this.#beforeLast[chunk] === time) return chunk;
    }
  }
}

/** The smallest key first. */
export class Heap {
  readonly #items: [key: number, value: number][] = [];

  push(key: number, value: number): void {
    const items = this.#items;
    let at = items.push([key, value]) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (items[parent]![0] <= items[at]![0]) break;
      [items[parent], items[at]] = [items[at]!, items[parent]!];
      at = parent;
    }
  }

  /** There is one. */
  pop(): [key: number, value: number] {
    const items = this.#items;
    const first = items[0]!;
    const last = items.pop()!;
    if (items.length === 0) return first;
    items[0] = last;
    for (let at = 0; ; ) {
      const [left, right] = [2 * at + 1, 2 * at + 2];
      let least = at;
      if (left < items.length && items[left]![0] < items[least]![0]) least = left;
      if (right < items.length && items[right]![0] < items[least]![0]) least = right;
      if (least === at) return first;
      [items[least], items[at]] = [items[at]!, items[least]!];
      at = least;
    }
  }
}
