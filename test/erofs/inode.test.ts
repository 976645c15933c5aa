import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { InodeKind } from '../../src/erofs/format.ts';
import { fitsCompact, type InodeCore, parseInode, writeInode } from '../../src/erofs/inode.ts';
import { seeded } from '../support/random.ts';

const epoch = { epochSeconds: -5, epochNanoseconds: 6 };
const core: InodeCore = {
  layout: 0,
  kind: 'file',
  mode: 0o4755,
  linkCount: 1,
  sizeBytes: 5000,
  xattrBodySizeBytes: 0,
  dataWord: 99,
  uid: 1,
  gid: 2,
  mtimeSeconds: -5,
  mtimeNanoseconds: 6,
};

function written(given: Partial<InodeCore>, extended: boolean): Buffer {
  const bytes = Buffer.alloc(64);
  writeInode(bytes, 0, { ...core, ...given }, { extended, serial: 36 });
  return bytes;
}

test('both kinds of inode come back', () => {
  const kinds: InodeKind[] = ['file', 'directory', 'symlink', 'character-device', 'block-device'];
  for (const random of seeded(300)) {
    const given: InodeCore = {
      layout: random.pick([0, 2, 4] as const),
      kind: random.pick<InodeKind>([...kinds, 'fifo', 'socket']),
      mode: random.below(0o10000),
      linkCount: random.u32(),
      sizeBytes: random.u32() * 2 ** 21,
      xattrBodySizeBytes: random.pick([0, 16, 12 + 4 * random.between(1, 65_534)]),
      dataWord: random.u32(),
      uid: random.u32(),
      gid: random.u32(),
      mtimeSeconds: random.u32() * 2 ** 20 - 2 ** 51,
      mtimeNanoseconds: random.below(1e9),
    };
    const seed = `seed ${random.seed}`;
    assert.deepEqual(parseInode(written(given, true), epoch, 'it'), given, seed);
    const small = {
      ...given,
      linkCount: given.linkCount & 0xffff,
      sizeBytes: random.u32(),
      uid: given.uid & 0xffff,
      gid: given.gid & 0xffff,
      mtimeSeconds: epoch.epochSeconds,
      mtimeNanoseconds: epoch.epochNanoseconds,
    };
    assert.ok(fitsCompact(small));
    assert.deepEqual(parseInode(written(small, false), epoch, 'it'), small, seed);
  }
});

test('what does not fit a compact inode', () => {
  assert.ok(fitsCompact({ ...core, uid: 0xffff, linkCount: 0xffff, sizeBytes: 0xffffffff }));
  assert.ok(!fitsCompact({ ...core, uid: 0x10000 }));
  assert.ok(!fitsCompact({ ...core, gid: 0x10000 }));
  assert.ok(!fitsCompact({ ...core, linkCount: 0x10000 }));
  assert.ok(!fitsCompact({ ...core, sizeBytes: 2 ** 32 }));
});

test('a compact inode of a later kernel counts its time from the epoch', () => {
  const bytes = written({}, false);
  bytes.writeUInt32LE(1000, 12);
  assert.equal(parseInode(bytes, epoch, 'it').mtimeSeconds, 995);
});

test('damaged inodes are refused by their reason', () => {
  const refused = (damage: (bytes: Buffer) => void, code: string, message: RegExp): void => {
    const bytes = written({}, true);
    damage(bytes);
    assert.throws(() => parseInode(bytes, epoch, 'inode 36 at byte 1152'), { code, message });
  };
  refused(bytes => bytes.writeUInt16LE(0x11, 0), 'UNSUPPORTED', /inode 36.*format 0x11/);
  refused(bytes => bytes.writeUInt16LE(0x03, 0), 'UNSUPPORTED', /compressed/);
  refused(bytes => bytes.writeUInt16LE(0x07, 0), 'UNSUPPORTED', /compressed/);
  refused(bytes => bytes.writeUInt16LE(0x0b, 0), 'CORRUPT', /layout 5/);
  refused(bytes => bytes.writeUInt16LE(1, 2), 'CORRUPT', /empty list/);
  refused(bytes => bytes.writeUInt16LE(0o030000, 4), 'CORRUPT', /type 030000/);
  refused(bytes => bytes.writeUInt16LE(1, 6), 'UNSUPPORTED', /48-bit/);
  refused(bytes => bytes.writeBigInt64LE(-1n, 8), 'CORRUPT', /size/);
  refused(bytes => bytes.writeBigInt64LE(2n ** 54n, 32), 'CORRUPT', /time/);
  refused(bytes => bytes.writeUInt32LE(1e9, 40), 'CORRUPT', /time/);
});
