import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BadMemo } from '../../../src/oci/layer/layer-memo.ts';
import { ByteReader } from '../../../src/push/memo/byte-reader.ts';
import { ByteWriter } from '../../../src/push/memo/byte-writer.ts';
import { type Random, seeded } from '../../support/random.ts';

const numbers = [0, 1, 127, 128, 16_383, 16_384, 2 ** 31, 2 ** 32 + 5, 2 ** 53 - 1, 2 ** 53];

function readerOf(bytes: Buffer): ByteReader {
  return new ByteReader(bytes, 0, bytes.length);
}

test('what is written is read, over the borders of pieces', () => {
  for (const random of seeded(20)) {
    const writer = new ByteWriter();
    const checks: ((reader: ByteReader) => void)[] = [];
    for (let count = 0; count < 3000; count++) checks.push(write(writer, random));
    const sizeBytes = writer.sizeBytes;
    const bytes = Buffer.concat(writer.finish());
    assert.equal(bytes.length, sizeBytes);
    const reader = readerOf(bytes);
    for (const check of checks) check(reader);
    assert.equal(reader.leftBytes, 0, `seed ${random.seed}`);
  }
});

function write(writer: ByteWriter, random: Random): (reader: ByteReader) => void {
  const value = random.pick([...numbers, random.u32()]);
  switch (random.below(5)) {
    case 0: {
      writer.varint(value);
      return reader => assert.equal(reader.varint(), value);
    }
    case 1: {
      const signed = value < 2 ** 53 && random.chance(0.5) ? value : -1 - (value % 2 ** 53);
      writer.signed(signed);
      return reader => assert.equal(reader.signed(), signed);
    }
    case 2: {
      const bytes = random.bytes(random.pick([0, 1, 32, 2000]));
      writer.bytes(bytes);
      return reader => assert.ok(reader.bytes(bytes.length).equals(bytes));
    }
    case 3: {
      const text = random.bytes(random.below(50)).toString('latin1');
      const from = random.below(text.length + 1);
      writer.text(text, from);
      return reader => assert.equal(reader.text(), text.slice(from));
    }
    default: {
      writer.byte(value & 0xff);
      return reader => assert.equal(reader.byte(), value & 0xff);
    }
  }
}

test('bytes that are no numbers, or too few, are refused', () => {
  const wrong = [[], [0x80], Array(9).fill(0xff), [...Array(7).fill(0xff), 0x7f]];
  for (const bytes of wrong) assert.throws(() => readerOf(Buffer.from(bytes)).varint(), BadMemo);
  assert.throws(() => readerOf(Buffer.from([5, 1, 2])).text(), BadMemo);
  assert.throws(() => readerOf(Buffer.alloc(3)).bytes(4), BadMemo);
  assert.throws(() => new ByteReader(Buffer.alloc(9), 0, 3).bytes(4), BadMemo);
});
