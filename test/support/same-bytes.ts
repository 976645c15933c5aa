/** Compares bytes; a failure says where they differ. assert.deepEqual's diff takes minutes. */

import assert from 'node:assert/strict';

/** Undefined is absence: only equal to itself. */
export function assertSameBytes(
  actual: Uint8Array | undefined,
  expected: Uint8Array | undefined,
  message = 'bytes',
): void {
  assert.equal(actual?.length, expected?.length, `${message}: length`);
  if (actual === undefined || expected === undefined) return;
  if (Buffer.compare(actual, expected) === 0) return;
  const at = actual.findIndex((byte, i) => byte !== expected[i]);
  assert.fail(`${message}: byte ${at} is ${actual[at]}, not ${expected[at]}`);
}
