import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  parseSuperblock,
  type Superblock,
  writeChecksum,
  writeSuperblock,
} from '../../src/erofs/superblock.ts';
import { Random } from '../support/random.ts';

const fields: Superblock = {
  rootNid: 36,
  inodeCount: 12_345_678_901,
  epochSeconds: -77,
  epochNanoseconds: 999_999_999,
  blocks: 0xfffffffe,
  metadataBlock: 0,
  xattrBlock: 7,
  uuid: new Random(1).bytes(16),
  hasChunkedFiles: true,
};

function block(given: Partial<Superblock> = {}): Buffer {
  const bytes = Buffer.alloc(4096);
  writeSuperblock(bytes, 1024, { ...fields, ...given });
  writeChecksum(bytes);
  return bytes;
}

test('what is written is read', () => {
  assert.deepEqual(parseSuperblock(block()), fields);
  const plain = { ...fields, hasChunkedFiles: false };
  assert.deepEqual(parseSuperblock(block(plain)), plain);
});

test('the checksum covers the rest of the block, and nothing else', () => {
  for (const at of [1024 + 8, 1024 + 127, 1024 + 128, 4095]) {
    const bytes = block();
    bytes[at]! ^= 1;
    // Byte 8 holds the feature that says there is a checksum: with it cleared there is none.
    if (at === 1024 + 8) assert.doesNotThrow(() => parseSuperblock(bytes));
    else assert.throws(() => parseSuperblock(bytes), { code: 'CORRUPT', message: /checksum/ });
  }
  const bytes = block();
  bytes[1023] = 1;
  assert.doesNotThrow(() => parseSuperblock(bytes));
});

test('foreign bytes and features of other writers are unsupported', () => {
  const unsupported = (damage: (bytes: Buffer) => void, message: RegExp): void => {
    const bytes = block();
    damage(bytes);
    writeChecksum(bytes);
    assert.throws(() => parseSuperblock(bytes), { code: 'UNSUPPORTED', message });
  };
  unsupported(bytes => bytes.fill(0), /magic/);
  unsupported(bytes => bytes.writeUInt8(14, 1024 + 12), /block size/);
  unsupported(bytes => bytes.writeUInt8(1, 1024 + 90), /directory blocks/);
  for (const feature of [0x2, 0x8, 0x10, 0x20, 0x40, 0x80, 0x100, 0x80000000])
    unsupported(bytes => bytes.writeUInt32LE(feature, 1024 + 80), /features 0x/);
});

test('numbers out of range are corrupt', () => {
  const corrupt = (damage: (bytes: Buffer) => void, message: RegExp): void => {
    const bytes = block();
    damage(bytes);
    writeChecksum(bytes);
    assert.throws(() => parseSuperblock(bytes), { code: 'CORRUPT', message });
  };
  corrupt(bytes => bytes.writeBigInt64LE(-1n, 1024 + 16), /inode count/);
  corrupt(bytes => bytes.writeBigInt64LE(2n ** 60n, 1024 + 24), /time/);
  corrupt(bytes => bytes.writeUInt32LE(1_000_000_000, 1024 + 32), /time/);
});
