import assert from 'node:assert/strict';
import { test } from 'node:test';
import { invert, invertMatrix, multiply, powerOfX, productsOf } from '../../src/erasure/field.ts';
import { seeded } from '../support/random.ts';
import { naiveMultiply, naivePowerOfX } from './naive-field.ts';

const bytes = Array.from({ length: 256 }, (_, byte) => byte);

test('all products are those of polynomials, by the table of one factor too', () => {
  for (const a of bytes) {
    const expected = bytes.map(b => naiveMultiply(a, b));
    assert.deepEqual(
      bytes.map(b => multiply(a, b)),
      expected,
    );
    assert.deepEqual([...productsOf(a)], expected);
  }
});

test('every byte but 0 has its inverse', () => {
  for (const a of bytes.slice(1)) assert.equal(naiveMultiply(a, invert(a)), 1);
  assert.throws(() => invert(0), /0 has no inverse/);
});

test('the powers of x are all bytes but 0, and begin again after 255', () => {
  const powers = Array.from({ length: 255 }, (_, exponent) => powerOfX(exponent));
  assert.deepEqual(
    [...powers].sort((a, b) => a - b),
    bytes.slice(1),
  );
  for (const exponent of [0, 1, 7, 8, 45, 254]) {
    assert.equal(powerOfX(exponent), naivePowerOfX(exponent));
    assert.equal(powerOfX(exponent + 255), powerOfX(exponent));
  }
});

test('a matrix times its inverse is the identity; a singular one has none', () => {
  for (const random of seeded(200)) {
    const size = random.between(1, 4);
    const matrix = Array.from({ length: size }, () => [...random.bytes(size)]);
    let inverse: number[][];
    try {
      inverse = invertMatrix(matrix);
    } catch (error) {
      assert.match(String(error), /can be inverted/);
      continue;
    }
    for (let row = 0; row < size; row++) {
      for (let column = 0; column < size; column++) {
        const sum = matrix[row]!.reduce(
          (sum, value, at) => sum ^ naiveMultiply(value, inverse[at]![column]!),
          0,
        );
        assert.equal(sum, Number(row === column), `seed ${random.seed}`);
      }
    }
  }
  assert.deepEqual(
    invertMatrix([
      [0, 1],
      [1, 0],
    ]),
    [
      [0, 1],
      [1, 0],
    ],
  );
  assert.throws(
    () =>
      invertMatrix([
        [1, 2],
        [2, 4],
      ]),
    /can be inverted/,
  );
});
