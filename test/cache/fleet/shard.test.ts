import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import { type ChunkId, sha256Hex } from '../../../src/base/digest.ts';
import {
  checksumAt,
  headerSizeBytes,
  leaseKey,
  repairKey,
  shardKey,
} from '../../../src/cache/fleet/format.ts';
import { type FleetNode, Placement } from '../../../src/cache/fleet/placement.ts';
import {
  assignShards,
  joinShards,
  makeShards,
  readShard,
  type Shard,
  type ShardedChunk,
  valueSizeBytes,
} from '../../../src/cache/fleet/shard.ts';
import { Random, seeded } from '../../support/random.ts';

const goldenPath = join(import.meta.dirname, '../../../fixtures/golden/shard-v1.bin');

interface Example extends ShardedChunk {
  sealed: Buffer;
  values: Buffer[];
}

function example(sealed: Buffer, dataShards = 4, parityShards = 1): Example {
  const id = sha256Hex(sealed) as ChunkId;
  const values = makeShards({ id, dataShards, parityShards }, sealed).map(shard =>
    Buffer.concat([shard.header, shard.payload]),
  );
  return { id, sizeBytes: sealed.length, dataShards, parityShards, sealed, values };
}

function shardsOf(chunk: Example, ...indexes: number[]): Shard[] {
  return indexes.map(index => {
    const shard = readShard(chunk.values[index]!, chunk);
    assert.ok(typeof shard !== 'string', `shard ${index} is ${shard}`);
    return shard;
  });
}

/** Shards whose payload is another: what a node may answer that computes the checksum anew. */
function lying(...shards: Shard[]): Shard[] {
  return shards.map(({ index, payload }) => ({ index, payload: Buffer.alloc(payload.length, 99) }));
}

test('golden bytes, made by another program', () => {
  const golden = readFileSync(goldenPath);
  const sealed = Buffer.from(Array.from({ length: 50 }, (_, i) => i * i * 7 + i * 13 + 5));
  const chunk = example(sealed, 4, 2);
  assert.deepEqual(Buffer.concat(chunk.values), golden);
  const sizeBytes = valueSizeBytes(chunk);
  const shards = [5, 4, 1, 0].map(at =>
    readShard(golden.subarray(at * sizeBytes, (at + 1) * sizeBytes), chunk),
  ) as Shard[];
  assert.deepEqual(joinShards(shards, chunk), { sealed, lies: [] });
});

test('keys are short, printable, and of one chunk and shape', () => {
  const { id } = example(Buffer.alloc(64));
  const other = example(Buffer.alloc(65)).id;
  const keys = [
    shardKey(id, { dataShards: 4, parityShards: 1 }),
    shardKey(id, { dataShards: 1, parityShards: 4 }),
    shardKey(id, { dataShards: 14, parityShards: 1 }),
    shardKey(id, { dataShards: 16, parityShards: 4 }),
    shardKey(other, { dataShards: 4, parityShards: 1 }),
    leaseKey(id, 1_048_605, { dataShards: 16, parityShards: 4 }),
    leaseKey(id, 104_860, { dataShards: 16, parityShards: 4 }),
    leaseKey(id, 104_860, { dataShards: 1, parityShards: 4 }),
    leaseKey(other, 104_860, { dataShards: 1, parityShards: 4 }),
    repairKey(id, { dataShards: 16, parityShards: 4 }),
    repairKey(id, { dataShards: 1, parityShards: 4 }),
  ];
  assert.equal(new Set(keys).size, keys.length);
  for (const key of keys) {
    assert.ok(key.length <= 250);
    assert.match(key, /^[!-~]+$/);
  }
  assert.equal(keys[0], `imgstore/shard/1/4+1/${id}`);
});

test('a chunk of any size and shape comes back from any shards', () => {
  for (const random of seeded(100)) {
    const [dataShards, parityShards] = [random.between(1, 16), random.between(0, 4)];
    const chunk = example(random.bytes(random.between(30, 3000)), dataShards, parityShards);
    const indexes = [...chunk.values.keys()];
    for (let lost = 0; lost < parityShards; lost++) {
      indexes.splice(random.below(indexes.length), 1);
    }
    const joined = joinShards(shardsOf(chunk, ...indexes.toReversed()), chunk);
    assert.deepEqual(joined, { sealed: chunk.sealed, lies: [] }, `seed ${random.seed}`);
  }
});

test('any one bit that is another, and any length, is found', () => {
  const chunk = example(new Random(1).bytes(100));
  const [value] = chunk.values as [Buffer];
  for (let bit = 0; bit < 8 * value.length; bit++) {
    const wrong = Buffer.from(value);
    wrong[bit >> 3]! ^= 1 << (bit & 7);
    assert.equal(typeof readShard(wrong, chunk), 'string', `bit ${bit}`);
  }
  for (let length = 0; length < value.length; length++) {
    assert.equal(typeof readShard(value.subarray(0, length), chunk), 'string', `${length} bytes`);
  }
  assert.equal(readShard(Buffer.concat([value, Buffer.alloc(1)]), chunk), 'damaged');
});

test('why a value is none', () => {
  const chunk = example(new Random(1).bytes(100));
  const [value] = chunk.values as [Buffer];
  const set = (at: number, byte: number) => {
    const wrong = Buffer.from(value);
    wrong[at] = byte;
    return readShard(wrong, chunk);
  };
  assert.equal(readShard(Buffer.alloc(0), chunk), 'unknown');
  assert.equal(readShard(Buffer.from('END\r\n'), chunk), 'unknown');
  assert.equal(set(0, 0), 'unknown');
  assert.equal(set(4, 2), 'unknown');
  assert.equal(set(7, 5), 'foreign');
  assert.equal(set(7, 255), 'foreign');
  assert.equal(set(7, 1), 'damaged');
  assert.equal(set(headerSizeBytes, ~value[headerSizeBytes]! & 255), 'damaged');
  for (const other of [
    example(new Random(2).bytes(100)),
    example(chunk.sealed, 4, 2),
    example(chunk.sealed, 5, 1),
    { ...chunk, sizeBytes: 99 },
    { ...chunk, sizeBytes: 2 ** 20 },
  ]) {
    assert.equal(readShard(value, other), 'foreign');
  }
});

test('noise is no shard and never throws', () => {
  const chunk = example(new Random(1).bytes(100));
  for (const random of seeded(2000)) {
    const noise = random.bytes(random.below(200));
    if (random.chance(0.5)) chunk.values[0]!.copy(noise, 0, 0, random.below(headerSizeBytes));
    assert.equal(typeof readShard(noise, chunk), 'string', `seed ${random.seed}`);
  }
});

test('the payload is a part of the value, and its words begin at whole words', () => {
  const chunk = example(Buffer.alloc(100, 1));
  const value = Buffer.from(new Uint8Array(chunk.values[1]!).buffer);
  const shard = readShard(value, chunk);
  assert.ok(typeof shard !== 'string');
  assert.equal(shard.payload.buffer, value.buffer);
  assert.equal(shard.payload.byteOffset % 8, 0);
});

test('too few shards make nothing, however often they come', () => {
  const chunk = example(new Random(1).bytes(1000));
  const three = shardsOf(chunk, 0, 2, 4);
  assert.equal(joinShards([], chunk), undefined);
  assert.equal(joinShards(three, chunk), undefined);
  assert.equal(joinShards([...three, ...three, ...three], chunk), undefined);
});

test('attack: one node of five computes a right checksum of wrong bytes', () => {
  const chunk = example(new Random(1).bytes(1000));
  for (let liar = 0; liar < 5; liar++) {
    const shards = shardsOf(chunk, 0, 1, 2, 3, 4);
    const [lie] = lying(shards[liar]!) as [Shard];
    shards[liar] = lie;
    const lies = liar < 4 ? [lie] : []; // The first four make the chunk: the fifth is not looked at.
    assert.deepEqual(joinShards(shards, chunk), { sealed: chunk.sealed, lies });
    const hasty = [lie, ...shards.filter(shard => shard !== lie).slice(0, 3)];
    assert.equal(joinShards(hasty, chunk), undefined, 'four are too few to tell');
  }
});

test('attack: a node answers with the index of another', () => {
  const chunk = example(new Random(1).bytes(1000));
  const shards = shardsOf(chunk, 0, 1, 2, 3);
  for (const index of [0, 1, 2, 3]) {
    const lie: Shard = { index, payload: Buffer.alloc(shards[0]!.payload.length) };
    for (const order of [
      [lie, ...shards],
      [...shards.toReversed(), lie],
    ]) {
      assert.deepEqual(joinShards(order, chunk)?.sealed, chunk.sealed);
    }
  }
});

test('attack: as many liars as there are shards of parity', () => {
  const chunk = example(new Random(1).bytes(1000), 4, 2);
  const lies = lying(...shardsOf(chunk, 1, 3));
  const shards = [...lies, ...shardsOf(chunk, 0, 2, 4, 5)];
  assert.deepEqual(joinShards(shards, chunk), { sealed: chunk.sealed, lies });
});

test('attack: one liar is found out in every shape that has parity', () => {
  for (let dataShards = 1; dataShards <= 16; dataShards++) {
    for (let parityShards = 1; parityShards <= 4; parityShards++) {
      const chunk = example(new Random(1).bytes(3000), dataShards, parityShards);
      for (const liar of [0, dataShards - 1]) {
        const shards = shardsOf(chunk, ...chunk.values.keys());
        const [lie] = lying(shards[liar]!) as [Shard];
        shards[liar] = lie;
        assert.deepEqual(joinShards(shards, chunk), { sealed: chunk.sealed, lies: [lie] });
      }
    }
  }
});

test('attack: four liars of twenty leave one way of 4845, which is not sought to the end', () => {
  const chunk = example(new Random(1).bytes(1000), 16, 4);
  const all = shardsOf(chunk, ...chunk.values.keys());
  assert.equal(joinShards([...lying(...all.slice(0, 4)), ...all.slice(4)], chunk), undefined);
  assert.deepEqual(joinShards(all.slice(4), chunk)?.sealed, chunk.sealed);
});

test('attack: a chunk forged as a whole, shards and checksums, is none', () => {
  const chunk = example(new Random(1).bytes(1000));
  const forged = example(new Random(2).bytes(1000));
  for (const [index, value] of forged.values.entries()) {
    chunk.values[index]!.copy(value, 0, 0, checksumAt);
    const payload = value.subarray(headerSizeBytes);
    value.writeUInt32LE(crc32(payload, crc32(value.subarray(0, checksumAt))), checksumAt);
  }
  const disguised = { ...chunk, values: forged.values };
  assert.equal(joinShards(shardsOf(disguised, 0, 1, 2, 3, 4), chunk), undefined);
});

test('nodes keep what they have; the others get what nobody has', () => {
  const shape = { dataShards: 4, parityShards: 1 };
  const none = undefined;
  assert.deepEqual(assignShards([none, none, none, none, none], shape), [0, 1, 2, 3, 4]);
  assert.deepEqual(assignShards([4, 3, 2, 1, 0], shape), [4, 3, 2, 1, 0]);
  assert.deepEqual(assignShards([none, 0, 2, 3, 4], shape), [1, 0, 2, 3, 4]);
  assert.deepEqual(assignShards([1, none, 1, none, 0], shape), [1, 2, 3, 4, 0]);
  assert.deepEqual(assignShards([none, 3], shape), [0, 3]);
  assert.throws(() => assignShards(Array(6).fill(none), shape), /a shard for every node/);
});

test('while nodes come and go one at a time, a chunk misses one shard each time', () => {
  const shape = { dataShards: 4, parityShards: 1 };
  for (const random of seeded(200)) {
    const id = sha256Hex(random.bytes(8)) as ChunkId;
    const node = (at: number): FleetNode => ({
      name: `node-${at}`,
      weight: random.between(1, 3),
      domain: `rack-${at % 4}`,
    });
    let nodes = Array.from({ length: 7 }, (_, at) => node(at));
    const held = new Map<string, number>();
    for (let change = 0; change < 20; change++) {
      const placed = new Placement(nodes).place(id, 5).map(({ name }) => name);
      const found = placed.map(name => held.get(name));
      const distinct = new Set(found.filter(index => index !== undefined)).size;
      assert.ok(change === 0 || distinct >= shape.dataShards, `seed ${random.seed}`);
      for (const [at, index] of assignShards(found, shape).entries()) held.set(placed[at]!, index);
      if (nodes.length > 6 && random.chance(0.5)) {
        const [gone] = nodes.splice(random.below(nodes.length), 1);
        held.delete(gone!.name);
      } else nodes = [...nodes, node(100 * random.seed + change)];
    }
  }
});
