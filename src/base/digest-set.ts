/**
 * Many digests in little memory: 16 bytes of each, in a hash table with 4/3 to 8/3 as many slots. A
 * set of strings takes five times as much.
 *
 * Two digests that agree in 128 bits count as one. Nobody meets that by chance; who spends 2^64
 * hashes on it hides an object of their own from a check. What stands where is random, so nobody can
 * choose digests that all fall on one place.
 */

import { randomBytes } from 'node:crypto';

const wordsPerSlot = 4;
const slotsMinLog2 = 10;

export class DigestSet {
  readonly #factors = Uint32Array.from({ length: wordsPerSlot }, () =>
    randomBytes(4).readInt32LE(),
  );
  readonly #sought = new Uint32Array(wordsPerSlot);
  #slotsLog2 = slotsMinLog2;
  #words = new Uint32Array(wordsPerSlot << slotsMinLog2);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Of 64 hexadecimal digits, as all digests here. */
  has(digest: string): boolean {
    return this.#words[this.#seek(digest)] !== 0;
  }

  /** False if it was there. */
  add(digest: string): boolean {
    const at = this.#seek(digest);
    if (this.#words[at] !== 0) return false;
    this.#words.set(this.#sought, at);
    this.#size++;
    if (this.#size * 4 > 2 ** this.#slotsLog2 * 3) this.#grow();
    return true;
  }

  #seek(digest: string): number {
    for (let i = 0; i < wordsPerSlot; i++) {
      this.#sought[i] = Number.parseInt(digest.slice(8 * i, 8 * i + 8), 16);
    }
    if (this.#sought[0] === 0) this.#sought[0] = 1; // 0 marks a free slot
    return this.#placeOf(this.#sought);
  }

  /** Where the digest is, or the free slot where it belongs. */
  #placeOf(words: Uint32Array): number {
    let hash = 0;
    for (let i = 0; i < wordsPerSlot; i++) hash += Math.imul(words[i]!, this.#factors[i]!);
    const last = 2 ** this.#slotsLog2 - 1;
    for (let slot = hash >>> (32 - this.#slotsLog2); ; slot = slot === last ? 0 : slot + 1) {
      const at = slot * wordsPerSlot;
      if (this.#words[at] === 0 || isAt(this.#words, at, words)) return at;
    }
  }

  #grow(): void {
    const before = this.#words;
    this.#slotsLog2++;
    this.#words = new Uint32Array(wordsPerSlot * 2 ** this.#slotsLog2);
    for (let at = 0; at < before.length; at += wordsPerSlot) {
      if (before[at] === 0) continue;
      const words = before.subarray(at, at + wordsPerSlot);
      this.#words.set(words, this.#placeOf(words));
    }
  }
}

function isAt(table: Uint32Array, at: number, words: Uint32Array): boolean {
  for (let i = 0; i < wordsPerSlot; i++) {
    if (table[at + i] !== words[i]) return false;
  }
  return true;
}
