import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isZero } from '../../src/chunk/zero.ts';

test('all zeros of any length and alignment', () => {
  const page = new Uint8Array(5000);
  for (let from = 0; from < 9; from++) {
    for (const size of [0, 1, 2, 7, 8, 9, 15, 16, 17, 511, 4095, 4096, 4097]) {
      assert.ok(isZero(page.subarray(from, from + size)), `${size} bytes at ${from}`);
    }
  }
  assert.ok(isZero(Buffer.alloc(1 << 20)));
});

test('a single byte that is not zero is found wherever it is', () => {
  for (const size of [1, 2, 7, 8, 9, 16, 17, 100, 4096]) {
    const bytes = Buffer.alloc(size);
    for (let at = 0; at < size; at++) {
      bytes[at] = 1 + (at % 255);
      assert.ok(!isZero(bytes), `byte ${at} of ${size}`);
      bytes[at] = 0;
    }
  }
});

test('what lies around the bytes does not count', () => {
  const bytes = Buffer.alloc(64, 0xff);
  bytes.fill(0, 10, 50);
  assert.ok(isZero(bytes.subarray(10, 50)));
  assert.ok(!isZero(bytes.subarray(9, 50)));
  assert.ok(!isZero(bytes.subarray(10, 51)));
});

test('bytes of a period of eight are not zeros', () => {
  assert.ok(!isZero(Buffer.alloc(4096, Buffer.from([0, 0, 0, 0, 0, 0, 0, 1]))));
  assert.ok(!isZero(Buffer.alloc(4096, 7)));
});
