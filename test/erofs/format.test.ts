import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeDevice, encodeDevice, readInt64, writeInt64 } from '../../src/erofs/format.ts';
import { seeded } from '../support/random.ts';

test('device numbers: the encoding of known ones, and all come back', () => {
  assert.equal(encodeDevice(1, 3), 0x103);
  assert.equal(encodeDevice(259, 70_000), 0x11110370);
  assert.equal(encodeDevice(0xfff, 0xfffff), 0xffffffff);
  for (const random of seeded(500)) {
    const device = { major: random.below(1 << 12), minor: random.below(1 << 20) };
    const word = encodeDevice(device.major, device.minor);
    assert.deepEqual(decodeDevice(word), device, `seed ${random.seed}`);
  }
});

test('64-bit numbers are those of BigInt, over all safe integers', () => {
  const target = Buffer.alloc(8);
  const ends = [0, -1, 1, 2 ** 32, -(2 ** 32), Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER];
  const randoms = [...seeded(500)].map(random =>
    Math.trunc((random.u32() * 2 ** 21 + random.below(2 ** 21)) * (random.chance(0.5) ? 1 : -1)),
  );
  for (const value of [...ends, ...randoms]) {
    writeInt64(target, 0, value);
    assert.equal(target.readBigInt64LE(), BigInt(value));
    assert.equal(readInt64(target, 0), value);
  }
});

test('a 64-bit number beyond the safe integers is none', () => {
  const source = Buffer.alloc(8);
  for (const value of [2n ** 53n, -(2n ** 53n), 2n ** 63n - 1n, -(2n ** 63n)]) {
    source.writeBigInt64LE(value);
    assert.equal(readInt64(source, 0), undefined, String(value));
  }
});
