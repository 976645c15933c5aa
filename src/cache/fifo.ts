/**
 * A queue of chunks that knows its bytes: the oldest leaves first, and any can be taken out. Every
 * operation takes constant time, amortised.
 *
 * A Map is in the order of insertion, but a new iterator passes over every hole that deletions left.
 * So one iterator is kept: what it has passed is gone, hence all that is there is ahead of it.
 */

import type { ChunkId } from '../base/digest.ts';

export interface Sized {
  /** On the disk, in whole blocks. */
  readonly diskBytes: number;
}

export class Fifo<Value extends Sized> {
  bytes = 0;
  readonly #values = new Map<ChunkId, Value>();
  #oldest = this.#values.entries();

  get size(): number {
    return this.#values.size;
  }

  get(id: ChunkId): Value | undefined {
    return this.#values.get(id);
  }

  /** The newest from now on; the queue has no such id yet. */
  push(id: ChunkId, value: Value): void {
    this.#values.set(id, value);
    this.bytes += value.diskBytes;
  }

  delete(id: ChunkId): boolean {
    const value = this.#values.get(id);
    if (value === undefined) return false;
    this.#values.delete(id);
    this.bytes -= value.diskBytes;
    return true;
  }

  /** Takes out the oldest. */
  shift(): [ChunkId, Value] | undefined {
    // An iterator that came to the end stays there.
    if (this.#values.size === 0) return undefined;
    const oldest = this.#oldest.next().value!;
    this.delete(oldest[0]);
    return oldest;
  }
}
