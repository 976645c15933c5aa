/** The bytes of one small disk, pinned: a change of them is a change of what every push writes. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ByteString } from '../../src/base/byte-string.ts';
import { sha256Hex } from '../../src/base/digest.ts';
import { diskBytes, type PlacedTree, TreeMaker } from '../support/disk-file.ts';
import { judge } from '../support/judged-disk.ts';

const goldenPath = join(import.meta.dirname, '..', '..', 'fixtures', 'golden', 'erofs-small.disk');
const goldenSha256 = '9a63bfd64bfef8c1269857eea5e77599b8d6f7228697dae035a6b6b52d87423b';

function goldenTree(): PlacedTree {
  const maker = new TreeMaker();
  const label = { xattrs: new Map([['security.selinux' as ByteString, Buffer.from('bin_t\0')]]) };
  const own = { xattrs: new Map([['user.note' as ByteString, Buffer.from('of its own')]]) };
  const linked = maker.file('two names\n', label);
  const root = maker.directory({
    bin: maker.directory({ sh: maker.file('s'.repeat(700), label), linked }, label),
    dev: maker.directory({
      null: maker.device('character-device', 1, 3, { mode: 0o666 }),
      disk: maker.device('block-device', 259, 70_000),
      pipe: maker.fifo(),
    }),
    etc: maker.directory({ empty: maker.file('') }, { mode: 0o1777, ...own }),
    hole: maker.sparse(1_000_000, [], Buffer.alloc(0)),
    late: maker.file('later', { mtimeSeconds: 2 ** 33, mtimeNanoseconds: 5, uid: 70_000 }),
    lib: maker.symlink('usr/lib'),
    linked,
    '!first': maker.file('before the dots', { mtimeSeconds: -1 }),
  });
  return { tree: { root }, contents: maker.contents };
}

test('the golden disk', () => {
  const disk = diskBytes(goldenTree());
  assert.ok(disk.equals(readFileSync(goldenPath)), 'the bytes have changed');
  assert.equal(sha256Hex(disk), goldenSha256);
});

test('the golden disk is sound', async () => {
  await judge(goldenTree());
});
