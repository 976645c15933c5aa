import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dataShardsMax, parityShardsMax } from '../../src/base/limits.ts';
import { decode, encode, isShape, shardSizeBytes } from '../../src/erasure/reed-solomon.ts';
import { Random, seeded } from '../support/random.ts';
import {
  combinationsBelow,
  naiveDeterminant,
  naiveMultiply,
  naivePowerOfX,
} from './naive-field.ts';

const limits = { dataShards: dataShardsMax, parityShards: parityShardsMax };

/** What docs/format/shard.md says, byte by byte. */
function naiveParity(data: readonly Buffer[], parity: number): Buffer {
  return Buffer.from(
    data[0]!.map((_, at) =>
      data.reduce((sum, shard, i) => sum ^ naiveMultiply(naivePowerOfX(i * parity), shard[at]!), 0),
    ),
  );
}

/** In memory of its own that begins `offset` bytes before. */
function movedBy(offset: number, bytes: Buffer): Buffer {
  const memory = Buffer.alloc(bytes.length + offset, 0xee);
  bytes.copy(memory, offset);
  return memory.subarray(offset);
}

test('a vector computed by hand: one byte a shard that is not 0', () => {
  const data = Buffer.alloc(32);
  for (const [shard, byte] of [0x01, 0x80, 0xff, 0x53].entries()) data[8 * shard] = byte;
  const shards = encode(data, { dataShards: 4, parityShards: 4 });
  assert.deepEqual(
    shards.slice(0, 4).map(shard => shard[0]),
    [0x01, 0x80, 0xff, 0x53],
  );
  // 01 + 80 + ff + 53, then 01 + x·80 + x²·ff + x³·53 = 01 + 1d + db + a2 with x⁸ = 1d.
  assert.equal(shards[4]![0], 0x2d);
  assert.equal(shards[5]![0], 0x65);
});

test('parity is what polynomial arithmetic says, for every shape', () => {
  for (let dataShards = 1; dataShards <= dataShardsMax; dataShards++) {
    const random = new Random(dataShards);
    const data = random.bytes(random.between(1, 40 * dataShards));
    const shards = encode(data, { dataShards, parityShards: parityShardsMax });
    const sources = shards.slice(0, dataShards);
    const padded = Buffer.concat([data, Buffer.alloc(sources.length * sources[0]!.length)]);
    for (const [index, shard] of sources.entries()) {
      assert.deepEqual(shard, padded.subarray(index * shard.length, (index + 1) * shard.length));
    }
    for (let parity = 0; parity < parityShardsMax; parity++) {
      assert.deepEqual(shards[dataShards + parity], naiveParity(sources, parity));
    }
  }
});

test('every square part of the matrix at the limits can be inverted: any k shards will do', () => {
  let parts = 0;
  for (let size = 1; size <= parityShardsMax; size++) {
    for (const rows of combinationsBelow(parityShardsMax, size)) {
      for (const columns of combinationsBelow(dataShardsMax, size)) {
        const part = rows.map(row => columns.map(column => naivePowerOfX(row * column)));
        assert.notEqual(naiveDeterminant(part), 0, `rows ${rows}, columns ${columns}`);
        parts++;
      }
    }
  }
  assert.equal(parts, 4844);
});

test('every k of k + m shards decode, for every shape', () => {
  let decoded = 0;
  for (let dataShards = 1; dataShards <= dataShardsMax; dataShards++) {
    for (let parityShards = 0; parityShards <= parityShardsMax; parityShards++) {
      const shape = { dataShards, parityShards };
      const data = new Random(dataShards).bytes(8 * dataShards - 3);
      const shards = encode(data, shape);
      for (const lost of combinationsBelow(shards.length, parityShards)) {
        const rest = shards.map((shard, index) => (lost.includes(index) ? undefined : shard));
        const result = decode(rest, { ...shape, lengthBytes: data.length });
        assert.ok(result.equals(data), `${dataShards} + ${parityShards} without ${lost}`);
        decoded++;
      }
    }
  }
  assert.equal(decoded, 26_328);
});

test('whatever the length, the losses and where shards lie in memory', () => {
  for (const random of seeded(300)) {
    const shape = {
      dataShards: random.between(1, dataShardsMax),
      parityShards: random.between(0, parityShardsMax),
    };
    const data = movedBy(random.below(9), random.bytes(random.between(1, 5000)));
    const shards: (Buffer | undefined)[] = encode(data, shape).map(shard =>
      movedBy(random.below(9), shard),
    );
    for (let losses = random.between(0, shape.parityShards); losses > 0; losses--) {
      shards[random.below(shards.length)] = undefined;
    }
    const before = shards.map(shard => shard && Buffer.from(shard));
    const result = decode(shards, { ...shape, lengthBytes: data.length });
    assert.ok(result.equals(data), `seed ${random.seed}`);
    assert.deepEqual(shards, before, `seed ${random.seed}: nobody wrote to the shards`);
  }
});

test('a chunk of 1 MiB and some', () => {
  const data = new Random(1).bytes(1024 * 1024 + 29);
  const shape = { dataShards: 4, parityShards: 1 };
  const [, second, ...others] = encode(data, shape);
  assert.equal(second!.length, shardSizeBytes(data.length, shape));
  const result = decode([undefined, second, ...others], { ...shape, lengthBytes: data.length });
  assert.ok(result.equals(data));
});

test('shards of data are parts of the data, and nothing is copied that need not be', () => {
  const data = Buffer.allocUnsafeSlow(4096).fill(7);
  const shards = encode(data, { dataShards: 4, parityShards: 1 });
  assert.deepEqual(
    shards.map(shard => shard.buffer === data.buffer),
    [true, true, true, true, false],
  );
  const alone = encode(data, { dataShards: 1, parityShards: 2 });
  const same = decode(alone, { dataShards: 1, parityShards: 2, lengthBytes: data.length });
  assert.equal(same.buffer, data.buffer);
});

test('a shard is a k-th of the data in whole words of 8 bytes', () => {
  const sizes = [1, 8, 9, 32, 33, 64].map(length =>
    shardSizeBytes(length, { dataShards: 4, parityShards: 1 }),
  );
  assert.deepEqual(sizes, [8, 8, 8, 8, 16, 16]);
});

test('what cannot be is a bug of the caller', () => {
  const shape = { dataShards: 4, parityShards: 1 };
  const data = Buffer.alloc(100, 1);
  const shards = encode(data, shape);
  const options = { ...shape, lengthBytes: data.length };
  const [first, second, ...others] = shards;
  assert.throws(() => decode([undefined, undefined, ...others], options), /as many shards/);
  assert.throws(() => decode([first, second], options), /a place for every shard/);
  const short = first!.subarray(8);
  assert.throws(() => decode([short, second, ...others], options), /the size of the shape/);
  assert.throws(() => decode(shards, { ...shape, lengthBytes: 200 }), /the size of the shape/);
  assert.throws(() => decode(shards, { ...shape, lengthBytes: 0 }), /there are data/);
  assert.throws(() => encode(Buffer.alloc(0), shape), /there are data/);
  assert.throws(() => encode(data, { ...shape, parityShards: 5 }), /within their limits/);
});

test('shapes are within their limits', () => {
  assert.ok(isShape(limits));
  assert.ok(isShape({ dataShards: 1, parityShards: 0 }));
  for (const wrong of [
    { dataShards: 0 },
    { dataShards: dataShardsMax + 1 },
    { dataShards: 1.5 },
    { parityShards: -1 },
    { parityShards: parityShardsMax + 1 },
    { parityShards: Number.NaN },
  ]) {
    assert.equal(isShape({ ...limits, ...wrong }), false);
  }
});
