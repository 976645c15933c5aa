import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32cUninverted } from '../../src/erofs/crc32c.ts';

test('the check value of CRC-32C, not inverted', () => {
  const crc = crc32cUninverted(Buffer.from('123456789'));
  assert.equal(~crc >>> 0, 0xe3069283);
  assert.equal(crc32cUninverted(Buffer.alloc(0)), 0xffffffff);
});
