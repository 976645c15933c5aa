/** Disks of hand-made trees, judged by fsck.erofs, the kernel and our reader. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { type ByteString, byteString } from '../../src/base/byte-string.ts';
import { GiB, KiB, TiB } from '../../src/base/limits.ts';
import { layoutChunkBased, layoutFlatInline, layoutFlatPlain } from '../../src/erofs/format.ts';
import { type DiskInode, DiskReader } from '../../src/erofs/reader.ts';
import type { DiskSource } from '../../src/erofs/source.ts';
import { walkDisk } from '../../src/erofs/walk.ts';
import { planDisk } from '../../src/erofs/writer.ts';
import type { Directory, Inode } from '../../src/tree/tree.ts';
import { bufferSource, diskBytes, TreeMaker } from '../support/disk-file.ts';
import { assertDiskShows, withMounted } from '../support/disk-listing.ts';
import { assertSound, judge, withDisk } from '../support/judged-disk.ts';
import { Random, seeded } from '../support/random.ts';
import { randomTree } from '../support/random-tree.ts';

type Entries = Record<string, Inode>;

function placed(maker: TreeMaker, entries: Entries | Directory) {
  const root = entries['kind'] === 'directory' ? (entries as Directory) : undefined;
  return { tree: { root: root ?? maker.directory(entries as Entries) }, contents: maker.contents };
}

/** By path. */
async function inodesOf(source: DiskSource): Promise<Map<string, DiskInode>> {
  const inodes = new Map<string, DiskInode>();
  for await (const { path, inode } of walkDisk(await DiskReader.open(source)))
    inodes.set(path, inode);
  return inodes;
}

function xattrs(values: Record<string, string | Buffer>): Map<ByteString, Buffer> {
  const entries = Object.entries(values);
  return new Map(
    entries.map(([name, value]) => [name as ByteString, Buffer.from(value as string)]),
  );
}

test('an empty root', async () => {
  const maker = new TreeMaker();
  const plan = await judge(placed(maker, {}));
  assert.equal(plan.diskSizeBytes, 4096);
  assert.equal(plan.metadataSizeBytes, 4096);
  assert.equal(plan.inodeCount, 1);
});

test('every kind of inode', async () => {
  const maker = new TreeMaker();
  const plan = await judge(
    placed(maker, {
      empty: maker.file(''),
      small: maker.file('x'.repeat(512)),
      large: maker.file('y'.repeat(100_000), { mode: 0o6755 }),
      directory: maker.directory({ inside: maker.file('z') }, { mode: 0o1777 }),
      link: maker.symlink('../somewhere/else'),
      null: maker.device('character-device', 1, 3),
      disk: maker.device('block-device', 259, 70_000),
      largest: maker.device('block-device', 0xfff, 0xfffff),
      zero: maker.device('character-device', 0, 0),
      pipe: maker.fifo(),
    }),
  );
  assert.equal(plan.inodeCount, 12);
  assert.equal(plan.contentBytes, 512 + 100_000 + 1);
});

test('ids, times and modes at their ends', async () => {
  const maker = new TreeMaker();
  const max = 0xffffffff;
  // Linux shows the id -1 as the overflow id, so one below it is the last that can be compared.
  await judge(
    placed(maker, {
      ids: maker.file('a', { uid: max - 1, gid: max - 1 }),
      compact: maker.file('b', { uid: 0xffff, gid: 0xffff }),
      extended: maker.file('c', { uid: 0x10000, gid: 0 }),
      negative: maker.file('d', { mtimeSeconds: -86_400 * 365 * 100, mtimeNanoseconds: 1 }),
      before: maker.file('e', { mtimeSeconds: -1, mtimeNanoseconds: 999_999_999 }),
      epoch: maker.file('f', { mtimeSeconds: 0 }),
      late: maker.file('g', { mtimeSeconds: 2 ** 34, mtimeNanoseconds: 5 }),
      none: maker.file('h', { mode: 0 }),
      all: maker.file('i', { mode: 0o7777 }),
    }),
  );
});

test('compact inodes, where the time is the most frequent one, halve a disk', async () => {
  const inodesWith = async (mtimeOf: (i: number) => number): Promise<number[]> => {
    const maker = new TreeMaker();
    const entries: Entries = {};
    for (let i = 0; i < 100; i++)
      entries[`p${i}`] = maker.fifo({ mtimeSeconds: mtimeOf(i), mtimeNanoseconds: 3 });
    const tree = placed(maker, entries);
    return withDisk(tree, async disk => {
      await assertSound(disk, { readAll: true });
      await assertDiskShows(disk, tree);
      const inodes = [...(await inodesOf(disk.source)).values()];
      return inodes.filter(({ kind }) => kind === 'fifo').map(inode => inode.footprintBytes);
    });
  };
  const clamped = await inodesWith(() => -77);
  assert.deepEqual(new Set(clamped), new Set([32]));
  const mixed = await inodesWith(i => (i < 60 ? 10 : i));
  assert.equal(mixed.filter(size => size === 32).length, 60);
  assert.equal(mixed.filter(size => size === 64).length, 40);
});

test('names of all bytes, sorted around the dots, up to 255', async () => {
  const maker = new TreeMaker();
  const root = maker.directory();
  const names = ['!', '#x', '+', '-', '--', '...', '.a', '..a', ' ', '\n', '\\', '"', '~', 'é'];
  for (const name of names) root.entries.set(byteString(Buffer.from(name)), maker.file(name));
  for (let byte = 1; byte < 256; byte++) {
    if (byte === 0x2f || byte === 0x2e) continue;
    const one = byteString(Buffer.of(byte));
    root.entries.set(one, maker.file(`one ${byte}`));
    root.entries.set(one.repeat(255) as ByteString, maker.file(`many ${byte}`));
  }
  await judge(placed(maker, root));
});

test('a name is found by lookup through the kernel in every block of a directory', async () => {
  const maker = new TreeMaker();
  const root = maker.directory();
  const random = new Random(1);
  for (let i = 0; i < 2000; i++) {
    const name = byteString(random.bytes(random.between(1, 40)));
    if (!/[/\0]/.test(name) && name !== '.' && name !== '..') root.entries.set(name, maker.fifo());
  }
  const tree = placed(maker, root);
  await withDisk(tree, async ({ source }) => {
    const reader = await DiskReader.open(source);
    const top = await reader.root();
    for (const name of root.entries.keys())
      assert.equal((await reader.lookup(top, name))?.name, name, JSON.stringify(name));
    assert.equal(await reader.lookup(top, '\x01' as ByteString), undefined);
    assert.equal(await reader.lookup(top, '\xff\xff' as ByteString), undefined);
    for (const name of ['.', '..'] as ByteString[])
      assert.equal((await reader.lookup(top, name))?.nid, top.nid);
  });
  await judge(tree);
});

test('100,000 entries in one directory', async () => {
  const maker = new TreeMaker();
  const many = maker.directory();
  for (let i = 0; i < 100_000; i++) many.entries.set(`entry-${i}` as ByteString, maker.fifo());
  const tree = placed(maker, { many, after: maker.file('after') });
  await withDisk(tree, async disk => {
    await assertSound(disk, { readAll: false });
    withMounted(disk.path, dir => {
      const listed = execFileSync('ls', ['-f', `${dir}/many`], { maxBuffer: 4 * 1024 * KiB });
      assert.equal(listed.toString().trim().split('\n').length, 100_002);
      const stats = execFileSync('stat', ['-c', '%F', `${dir}/many/entry-77777`, `${dir}/after`]);
      assert.equal(stats.toString(), 'fifo\nregular file\n');
    });
  });
});

test('a directory whose blocks fill exactly, and one byte around it', async () => {
  // The dots take 27 bytes, "n" 13: with a first name of this length, entries fill one block.
  for (const missing of [-1, 0, 1]) {
    const maker = new TreeMaker();
    const root = maker.directory();
    let left = 4096 - 27 + missing;
    for (let i = 0; left > 0; i++) {
      const length = left > 2 * 267 ? 255 : left > 267 ? left - 12 - 200 : left - 12;
      root.entries.set(String.fromCharCode(48 + i).repeat(length) as ByteString, maker.fifo());
      left -= 12 + length;
    }
    const tree = placed(maker, root);
    await withDisk(tree, async ({ source }) => {
      const top = (await inodesOf(source)).get('/')!;
      if (missing <= 0) assert.equal(top.sizeBytes, 4096 + missing);
      else assert.ok(top.sizeBytes > 4096, 'one more byte needs another block');
      assert.equal(top.layout === layoutFlatPlain, missing <= 0);
    });
    await judge(tree);
  }
});

test('a file of any size around the inline limit and whole blocks', async () => {
  const maker = new TreeMaker();
  const entries: Entries = {};
  for (const size of [0, 1, 511, 512, 513, 4095, 4096, 4097, 8191, 8192, 8193, 65_536, 65_537])
    entries[`f${size}`] = maker.file(new Random(size).bytes(size));
  await judge(placed(maker, entries));
});

test('inline data ends exactly at a block, and never crosses one', async () => {
  const maker = new TreeMaker();
  const entries: Entries = {};
  // The root's 32 bytes and entries stand first; 300 tails of odd sizes meet every remainder.
  for (let i = 0; i < 300; i++) entries[`t${i}`] = maker.file(new Random(i).bytes(200 + i));
  for (let i = 0; i < 40; i++)
    entries[`l${i}`] = maker.symlink('t'.repeat(4096 - 32 - 20 + i), { mtimeSeconds: 5 });
  const tree = placed(maker, entries);
  const ends = await withDisk(tree, async ({ source }) =>
    [...(await inodesOf(source)).values()].map(inode => inode.offsetBytes + inode.footprintBytes),
  );
  assert.ok(
    ends.some(end => end % 4096 === 0),
    'one of them ends with its block',
  );
  await judge(tree);
});

test('symlinks of 1 to 4095 bytes', async () => {
  const maker = new TreeMaker();
  const entries: Entries = {};
  for (const length of [1, 59, 60, 1000, 4000, 4031, 4032, 4033, 4064, 4065, 4095])
    entries[`l${length}`] = maker.symlink('x'.repeat(length));
  const tree = placed(maker, entries);
  await withDisk(tree, async ({ source }) => {
    const inodes = await inodesOf(source);
    assert.equal(inodes.get('/l4064')?.layout, layoutFlatInline);
    assert.equal(inodes.get('/l4065')?.layout, layoutFlatPlain);
  });
  await judge(tree);
});

test('hard links in and across directories', async () => {
  const maker = new TreeMaker();
  const file = maker.file('shared by name');
  const fifo = maker.fifo();
  const plan = await judge(
    placed(maker, {
      a: maker.directory({ one: file, two: file, pipe: fifo }),
      b: maker.directory({ c: maker.directory({ three: file, pipe: fifo }) }),
      z: file,
    }),
  );
  assert.equal(plan.inodeCount, 6);
  assert.equal(plan.contentBytes, 14);
});

test('70,000 names of one inode', async () => {
  const maker = new TreeMaker();
  const one = maker.fifo();
  const names = maker.directory();
  for (let i = 0; i < 70_000; i++) names.entries.set(`n${i}` as ByteString, one);
  await withDisk(placed(maker, { names }), async disk => {
    await assertSound(disk, { readAll: false });
    withMounted(disk.path, dir => {
      const stats = execFileSync('stat', ['-c', '%h', `${dir}/names/n5`]);
      assert.equal(stats.toString(), '70000\n');
    });
  });
});

test('files of equal content share their blocks', async () => {
  const maker = new TreeMaker();
  const bytes = new Random(3).bytes(50_000);
  const tree = placed(maker, { a: maker.file(bytes), b: maker.file(bytes), c: maker.file(bytes) });
  const plan = await judge(tree);
  assert.equal(plan.diskSizeBytes - plan.metadataSizeBytes, 13 * 4096);
  assert.equal(plan.contentBytes, 150_000);
});

test('sparse files: data first, in the middle, last, nowhere, over 4 GiB', async () => {
  const maker = new TreeMaker();
  const data = new Random(4).bytes(100);
  const at = (size: number, offsetBytes: number) =>
    maker.sparse(size, [{ offsetBytes, lengthBytes: 100 }], data);
  const tree = placed(maker, {
    start: at(1_000_000, 0),
    middle: at(1_000_001, 500_000),
    end: at(1_000_002, 999_902),
    nowhere: maker.sparse(1_000_003, [], Buffer.alloc(0)),
    tiny: maker.sparse(10, [], Buffer.alloc(0)),
    empty: maker.sparse(0, [], Buffer.alloc(0)),
    large: at(5 * GiB, 5 * GiB - 100),
  });
  await withDisk(tree, async ({ source }) => {
    const inodes = await inodesOf(source);
    for (const name of ['start', 'middle', 'end', 'nowhere', 'tiny', 'large'])
      assert.equal(inodes.get(`/${name}`)?.layout, layoutChunkBased, name);
    assert.equal(inodes.get('/nowhere')?.footprintBytes, 32 + 4, 'one hole');
    assert.equal((await DiskReader.open(source)).superblock.hasChunkedFiles, true);
  });
  await judge(tree);
});

test('a hole of 8 TiB', async () => {
  const maker = new TreeMaker();
  const size = 8 * TiB + 5;
  const tree = placed(maker, {
    hole: maker.sparse(size, [{ offsetBytes: size - 5, lengthBytes: 5 }], Buffer.from('ended')),
    nothing: maker.sparse(size, [], Buffer.alloc(0)),
  });
  await withDisk(tree, async disk => {
    await assertSound(disk, { readAll: false });
    await assertDiskShows(disk, tree);
    assert.ok(disk.plan.metadataSizeBytes <= 128 * KiB);
  });
});

test('a disk without sparse files asks for no feature', async () => {
  const maker = new TreeMaker();
  const disk = diskBytes(placed(maker, { a: maker.file('x'.repeat(5000)) }));
  assert.equal((await DiskReader.open(bufferSource(disk))).superblock.hasChunkedFiles, false);
});

test('attributes of every namespace, of 60 KB, empty, and more than a block of them', async () => {
  const maker = new TreeMaker();
  const acl = Buffer.from(
    '0200000001000600ffffffff02000500e803000004000400ffffffff10000700ffffffff20000400ffffffff',
    'hex',
  );
  const many = Object.fromEntries(
    Array.from({ length: 300 }, (_, i) => [`user.many.${i}`, `value ${i} `.repeat(10)]),
  );
  const big = { 'user.big': new Random(5).bytes(60_000) };
  await judge(
    placed(
      maker,
      maker.directory(
        {
          all: maker.file('content', {
            xattrs: xattrs({
              'user.empty': '',
              'user.binary': Buffer.of(0, 1, 2, 255),
              'trusted.t': 'trusted',
              'security.capability': Buffer.from('0100000200200000000000000000000000000000', 'hex'),
              'system.posix_acl_access': acl,
              [`user.${'n'.repeat(250)}`]: 'long name',
            }),
          }),
          defaults: maker.directory({}, { xattrs: xattrs({ 'system.posix_acl_default': acl }) }),
          big: maker.file('inline no more', { xattrs: xattrs(big) }),
          link: maker.symlink('big', {
            xattrs: xattrs({ 'trusted.big': new Random(6).bytes(60_000) }),
          }),
          pipe: maker.fifo({ xattrs: xattrs({ 'trusted.pipe': 'p' }) }),
          many: maker.directory({ below: maker.file('b') }, { xattrs: xattrs(many) }),
          sparse: maker.sparse(100_000, [], Buffer.alloc(0), {
            xattrs: xattrs({ 'user.odd': 'abc' }),
          }),
        },
        { xattrs: xattrs({ 'user.root': new Random(7).bytes(50_000) }) },
      ),
    ),
  );
});

test('labels that many inodes have are stored once', async () => {
  const maker = new TreeMaker();
  const label = (i: number) => `system_u:object_r:type_${i % 5}_t:s0:${'c'.repeat(100)}\0`;
  const entries: Entries = {};
  for (let i = 0; i < 500; i++) {
    const own = i % 10 === 0 ? { 'trusted.own': `only ${i}` } : {};
    entries[`f${i}`] = maker.fifo({ xattrs: xattrs({ 'security.selinux': label(i), ...own }) });
  }
  const plan = await judge(placed(maker, entries));
  // An inode with a label of its own would take 192 bytes, 96 KB in all.
  assert.ok(plan.metadataSizeBytes < 56 * KiB, `${plan.metadataSizeBytes} bytes`);
});

test('more shared attributes than an inode can refer to', async () => {
  const maker = new TreeMaker();
  const many = Object.fromEntries(
    Array.from({ length: 300 }, (_, i) => [`user.shared.${i}`, `the same value ${i}`]),
  );
  const entries: Entries = {};
  for (let i = 0; i < 3; i++) entries[`f${i}`] = maker.file(`f${i}`, { xattrs: xattrs(many) });
  await judge(placed(maker, entries));
});

test('a chain of 2048 directories', async () => {
  const maker = new TreeMaker();
  let directory = maker.directory();
  for (let depth = 1; depth < 2048; depth++) directory = maker.directory({ d: directory });
  await withDisk(placed(maker, { d: directory }), async disk => {
    await assertSound(disk, { readAll: false });
    withMounted(disk.path, dir => {
      const depths = execFileSync('find', ['.', '-printf', '%d\n'], { cwd: dir }).toString();
      assert.equal(depths.trim().split('\n').at(-1), '2048');
    });
  });
});

test('a tree beyond a limit is refused with its path', () => {
  const maker = new TreeMaker();
  const refused = (entries: Entries, code: string, message: RegExp): void => {
    const plan = () => planDisk({ root: maker.directory(entries) }, () => never(), 0);
    assert.throws(plan, { name: 'ImgstoreError', code, message });
  };
  let deep = maker.directory({ leaf: maker.fifo() });
  for (let depth = 1; depth < 2048; depth++) deep = maker.directory({ d: deep });
  refused({ d: deep }, 'LIMIT', /^Cannot write \/d\/d\/.*2048 levels deep/);
  refused({ a: maker.directory({ ['x'.repeat(256)]: maker.fifo() }) }, 'LIMIT', /\/a\/x+.*256/);
  refused({ s: maker.symlink('y'.repeat(4096)) }, 'LIMIT', /Cannot write \/s: .*4096 bytes/);
  const of = (values: Record<string, string | Buffer>): Entries => ({
    x: maker.fifo({ xattrs: xattrs(values) }),
  });
  refused(of({ 'user.v': Buffer.alloc(65_536) }), 'LIMIT', /^Cannot write \/x: .*65536/);
  refused(of({ [`user.${'n'.repeat(251)}`]: '' }), 'LIMIT', /^Cannot write \/x: .*256/);
  refused(of({ 'system.nfs4_acl': '' }), 'UNSUPPORTED', /^Cannot write \/x: .*nfs4_acl/);
  refused(of({ 'user.': '' }), 'UNSUPPORTED', /^Cannot write \/x: /);
  const sized = Array.from({ length: 5 }, (_, i) => [`user.${i}`, Buffer.alloc(60_000, i)]);
  refused(of(Object.fromEntries(sized)), 'LIMIT', /^Cannot write \/x: attributes have 300/);
  const named = Array.from({ length: 300 }, (_, i) => [`user.${'n'.repeat(240)}${i}`, '']);
  refused(of(Object.fromEntries(named)), 'LIMIT', /^Cannot write \/x: attribute names have/);
});

function never(): never {
  throw new Error('no file was there to ask for');
}

test('a disk of 16 TiB is refused', () => {
  const root = new TreeMaker().directory();
  const plan = (bytes: number) => planDisk({ root }, () => never(), bytes);
  assert.throws(() => plan(16 * TiB), { code: 'LIMIT' });
  assert.throws(() => plan(16 * TiB - 4096), { code: 'LIMIT' });
  assert.equal(plan(16 * TiB - 3 * 4096).diskSizeBytes, 16 * TiB - 2 * 4096);
});

test('random trees come back from reader and kernel as they were', async () => {
  for (const random of seeded(12)) {
    const tree = randomTree(random, 400);
    await judge(tree).catch(error => {
      throw new Error(`seed ${random.seed}`, { cause: error });
    });
  }
});

test('one tree is one disk, whatever the order in which it was made', () => {
  const disks = [false, true].map(reversed => {
    const { tree, contents } = randomTree(new Random(99), 300);
    const open = [tree.root];
    for (let directory = open.pop(); directory !== undefined; directory = open.pop()) {
      const entries = [...directory.entries];
      for (const [, inode] of entries) if (inode.kind === 'directory') open.push(inode);
      if (reversed) directory.entries = new Map(entries.reverse());
    }
    const planned = planDisk(
      tree,
      ({ sizeBytes, ordinal }) => {
        if (sizeBytes > 512) return { kind: 'extents', extents: [] };
        const bytes = contents.get(ordinal)!;
        return bytes.length === sizeBytes
          ? { kind: 'inline', bytes }
          : { kind: 'extents', extents: [] };
      },
      0,
    );
    return Buffer.concat([...planned.metadata()]);
  });
  assert.ok(disks[0]!.equals(disks[1]!));
});

test('the metadata can be made again, and other metadata has another uuid', async () => {
  const uuidOf = async (name: string): Promise<Buffer> => {
    const maker = new TreeMaker();
    const plan = planDisk({ root: maker.directory({ [name]: maker.fifo() }) }, () => never(), 0);
    const bytes = Buffer.concat([...plan.metadata()]);
    assert.ok(Buffer.concat([...plan.metadata()]).equals(bytes));
    return (await DiskReader.open(bufferSource(bytes))).superblock.uuid;
  };
  const uuid = await uuidOf('a');
  assert.equal(uuid[6]! >> 4, 8);
  assert.equal(uuid[8]! >> 6, 2);
  assert.notDeepEqual(uuid, await uuidOf('b'));
});
