import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ByteString } from '../../src/base/byte-string.ts';
import {
  directoryBlocks,
  directorySizeBytes,
  firstNameOf,
  parseDirectoryBlock,
  writeDirectoryBlock,
} from '../../src/erofs/directory.ts';
import { type Random, seeded } from '../support/random.ts';

function randomNames(random: Random): ByteString[] {
  const names = new Set<string>(['.', '..']);
  for (let i = random.below(800); i > 0; i--)
    names.add(random.text(random.chance(0.1) ? 255 : random.between(1, 30), 'abc!~\x01\xff'));
  return [...names].sort() as ByteString[];
}

/** The content of a directory whose entries have their index as nid. */
function content(names: readonly ByteString[]): Buffer {
  const bytes = Buffer.alloc(directorySizeBytes(names));
  let at = 0;
  for (const range of directoryBlocks(names)) {
    writeDirectoryBlock(bytes, at, range, names, i => ({ nid: i + 2 ** 33, kind: 'fifo' }));
    at += 4096;
  }
  return bytes;
}

test('directories come back, their blocks full but for the last', () => {
  for (const random of seeded(60)) {
    const names = randomNames(random);
    const bytes = content(names);
    const found = [];
    for (let at = 0; at < bytes.length; at += 4096) {
      const block = bytes.subarray(at, at + 4096);
      const entries = parseDirectoryBlock(block, 'it');
      assert.equal(firstNameOf(block, 'it'), entries[0]!.name);
      found.push(...entries);
    }
    const expected = names.map((name, i) => ({ name, nid: i + 2 ** 33, kind: 'fifo' }));
    assert.deepEqual(found, expected, `seed ${random.seed}`);
    const ranges = [...directoryBlocks(names)];
    for (const [i, { usedBytes }] of ranges.slice(0, -1).entries()) {
      const next = names[ranges[i + 1]!.start]!;
      assert.ok(usedBytes <= 4096 && usedBytes + 12 + next.length > 4096, `seed ${random.seed}`);
    }
  }
});

test('an empty directory has 27 bytes', () => {
  assert.equal(directorySizeBytes(['.', '..'] as ByteString[]), 27);
});

test('damaged blocks are refused by their reason', () => {
  const names = ['.', '..', 'name'] as ByteString[];
  const refused = (damage: (bytes: Buffer) => void, message: RegExp): void => {
    const bytes = content(names);
    damage(bytes);
    assert.throws(() => parseDirectoryBlock(bytes, 'directory block 0'), {
      code: 'CORRUPT',
      message,
    });
  };
  for (const offset of [0, 11, 13, 43, 48, 0xffff])
    refused(bytes => bytes.writeUInt16LE(offset, 8), /where entries end/);
  refused(bytes => bytes.writeUInt8(9, 10), /unknown type 9/);
  refused(bytes => bytes.writeBigUInt64LE(2n ** 53n, 0), /no possible nid/);
  refused(bytes => bytes.writeUInt16LE(35, 12 + 8), /name of -1 bytes|not among/);
  refused(bytes => bytes.writeUInt16LE(36, 12 + 8), /name of 0 bytes/);
  refused(bytes => bytes.writeUInt16LE(0xffff, 24 + 8), /not among/);
  refused(bytes => bytes.write('b', 36), /entry 1 is out of order/);
  refused(bytes => bytes.write('/', 41), /no file can have/);
  refused(bytes => bytes.writeUInt8(0, 39), /name of 0 bytes/);
  refused(bytes => bytes.writeUInt8(0, 37), /no file can have|out of order/);
  assert.throws(() => parseDirectoryBlock(Buffer.alloc(11), 'it'), { code: 'CORRUPT' });
  assert.throws(() => parseDirectoryBlock(Buffer.alloc(4096), 'it'), { code: 'CORRUPT' });
});

test('a name of 256 bytes is refused', () => {
  const bytes = content(['.', 'a'.repeat(256)] as ByteString[]);
  assert.throws(() => parseDirectoryBlock(bytes, 'it'), { code: 'CORRUPT', message: /256 bytes/ });
});

test('random bytes are refused or read, and nothing else happens', () => {
  for (const random of seeded(3000)) {
    const bytes = content(['.', '..', 'aa', 'bbb', 'cccc'] as ByteString[]);
    for (let i = random.between(1, 6); i > 0; i--)
      bytes[random.below(bytes.length)] = random.pick([0, 1, 12, 24, 60, 255, random.below(256)]);
    try {
      parseDirectoryBlock(bytes, 'it');
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'CORRUPT', `seed ${random.seed}: ${error}`);
    }
  }
});
