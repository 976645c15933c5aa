/** GF(2^8) as a schoolbook has it, to judge src/erasure by: polynomials multiplied bit by bit. */

export function naiveMultiply(a: number, b: number): number {
  let product = 0;
  for (let bit = 0; bit < 8; bit++) if ((b >> bit) & 1) product ^= a << bit;
  for (let bit = 14; bit >= 8; bit--) if ((product >> bit) & 1) product ^= 0x11d << (bit - 8);
  return product;
}

export function naivePowerOfX(exponent: number): number {
  let power = 1;
  for (let i = 0; i < exponent; i++) power = naiveMultiply(power, 2);
  return power;
}

/** By Laplace's expansion; minus is plus here. */
export function naiveDeterminant(matrix: readonly (readonly number[])[]): number {
  const [first, ...rest] = matrix;
  if (first === undefined) return 1;
  let sum = 0;
  for (const [column, value] of first.entries()) {
    const minor = rest.map(row => row.filter((_, at) => at !== column));
    sum ^= naiveMultiply(value, naiveDeterminant(minor));
  }
  return sum;
}

/** All sets of `size` of the numbers below `end`, in ascending order. */
export function* combinationsBelow(end: number, size: number, from = 0): Generator<number[]> {
  if (size === 0) yield [];
  for (let at = from; size > 0 && at <= end - size; at++) {
    for (const rest of combinationsBelow(end, size - 1, at + 1)) yield [at, ...rest];
  }
}
