/**
 * Sums of shards times factors, over GF(2^8): all the work of encoding and decoding. Four bytes at a
 * time; each byte stands for itself, so the byte order of the machine does not matter.
 */

import { assert } from '../base/assert.ts';
import { productsOf } from './field.ts';

const sameLength = 'terms have the length of their sum';

export interface Term {
  factor: number;
  words: Uint32Array;
}

/** The bytes as words: the same memory if they begin at a whole word, else a copy of it. */
export function wordsOf(bytes: Uint8Array): Uint32Array {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : new Uint8Array(bytes);
  return new Uint32Array(aligned.buffer, aligned.byteOffset, aligned.length / 4);
}

/** Adds the terms to `sum`; all are of the same length. */
export function addTerms(sum: Uint32Array, terms: readonly Term[]): void {
  const plain = terms.filter(({ factor }) => factor === 1).map(({ words }) => words);
  let at = 0;
  for (; at + 4 <= plain.length; at += 4) {
    addFour(sum, plain[at]!, plain[at + 1]!, plain[at + 2]!, plain[at + 3]!);
  }
  for (; at < plain.length; at++) addOne(sum, plain[at]!);
  for (const { factor, words } of terms) {
    if (factor > 1) addProduct(sum, words, productsOf(factor));
  }
}

/**
 * Four sources in one pass: almost three times as fast as four passes. The loops here are also three
 * times as fast for lengths that are known to be equal: V8 need not check each access.
 */
function addFour(
  sum: Uint32Array,
  a: Uint32Array,
  b: Uint32Array,
  c: Uint32Array,
  d: Uint32Array,
): void {
  const n = sum.length;
  assert(a.length === n && b.length === n && c.length === n && d.length === n, sameLength);
  for (let i = 0; i < n; i++) sum[i]! ^= a[i]! ^ b[i]! ^ c[i]! ^ d[i]!;
}

function addOne(sum: Uint32Array, words: Uint32Array): void {
  const n = sum.length;
  assert(words.length === n, sameLength);
  for (let i = 0; i < n; i++) sum[i]! ^= words[i]!;
}

/** One table of 256 products: docs/format/shard.md has what was measured against it. */
function addProduct(sum: Uint32Array, words: Uint32Array, products: Uint32Array): void {
  const n = sum.length;
  assert(words.length === n && products.length === 256, sameLength);
  for (let i = 0; i < n; i++) {
    const word = words[i]!;
    sum[i]! ^=
      products[word & 255]! |
      (products[(word >>> 8) & 255]! << 8) |
      (products[(word >>> 16) & 255]! << 16) |
      (products[word >>> 24]! << 24);
  }
}
