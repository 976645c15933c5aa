/**
 * GF(2^8): bytes as polynomials over GF(2), modulo x^8 + x^4 + x^3 + x^2 + 1, of which x generates
 * all 255 elements but 0. Addition is XOR. docs/format/shard.md says which codes are built on it.
 */

import { assert } from '../base/assert.ts';

const polynomial = 0x11d;
/** Elements but 0: the powers of x repeat after so many. */
const order = 255;

const { powers, logarithms } = makeTables();

/** Powers go twice around, so that a sum of two logarithms needs no remainder. */
function makeTables(): { powers: Uint8Array; logarithms: Uint8Array } {
  const powers = new Uint8Array(2 * order);
  const logarithms = new Uint8Array(256);
  for (let exponent = 0, power = 1; exponent < order; exponent++, power = timesX(power)) {
    powers[exponent] = power;
    powers[exponent + order] = power;
    logarithms[power] = exponent;
  }
  return { powers, logarithms };
}

function timesX(a: number): number {
  return (a << 1) ^ (a >> 7 === 0 ? 0 : polynomial);
}

/** x to the power of `exponent`, which is at least 0. */
export function powerOfX(exponent: number): number {
  return powers[exponent % order]!;
}

export function multiply(a: number, b: number): number {
  return a === 0 || b === 0 ? 0 : powers[logarithms[a]! + logarithms[b]!]!;
}

export function invert(a: number): number {
  assert(a !== 0, '0 has no inverse');
  return powers[order - logarithms[a]!]!;
}

/** The products of `factor` with every byte. */
export function productsOf(factor: number): Uint32Array {
  const products = new Uint32Array(256);
  for (let bit = 1, product = factor; bit < 256; bit *= 2, product = timesX(product)) {
    for (let low = 0; low < bit; low++) products[bit + low] = product ^ products[low]!;
  }
  return products;
}

/** The inverse of a square matrix of rows, by Gauss and Jordan. It must not be singular. */
export function invertMatrix(matrix: readonly (readonly number[])[]): number[][] {
  const size = matrix.length;
  const rows = matrix.map((row, at) => [
    ...row,
    ...Array.from({ length: size }, (_, column) => Number(column === at)),
  ]);
  for (let column = 0; column < size; column++) {
    const pivotAt = rows.findIndex((row, at) => at >= column && row[column] !== 0);
    assert(pivotAt >= 0, 'the matrix can be inverted');
    const [pivot] = rows.splice(pivotAt, 1) as [number[]];
    const scale = invert(pivot[column]!);
    rows.splice(column, 0, pivot);
    for (const [i, value] of pivot.entries()) pivot[i] = multiply(scale, value);
    for (const row of rows) {
      const factor = row === pivot ? 0 : row[column]!;
      if (factor === 0) continue;
      for (const [i, value] of pivot.entries()) row[i]! ^= multiply(factor, value);
    }
  }
  return rows.map(row => row.slice(size));
}
