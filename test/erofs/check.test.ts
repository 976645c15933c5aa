import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ByteString } from '../../src/base/byte-string.ts';
import { checkDisk } from '../../src/erofs/check.ts';
import { type DiskInode, DiskReader } from '../../src/erofs/reader.ts';
import { writeChecksum } from '../../src/erofs/superblock.ts';
import { walkDisk } from '../../src/erofs/walk.ts';
import { bufferSource, diskBytes, TreeMaker } from '../support/disk-file.ts';
import { listDisk } from '../support/disk-listing.ts';
import { Random, seeded } from '../support/random.ts';
import { randomTree } from '../support/random-tree.ts';

function sampleDisk(): Buffer {
  const maker = new TreeMaker();
  const linked = maker.file('has two names');
  const label = new Map([['security.selinux' as ByteString, Buffer.alloc(40, 'l')]]);
  const many = maker.directory();
  for (let i = 0; i < 300; i++) many.entries.set(`entry ${i}` as ByteString, maker.fifo());
  const root = maker.directory({
    a: maker.directory({ linked, link: maker.symlink('../b') }, { xattrs: label }),
    b: maker.file(new Random(1).bytes(20_000), { xattrs: label, mtimeSeconds: 5 }),
    linked,
    many,
    sparse: maker.sparse(300_000, [{ offsetBytes: 100_000, lengthBytes: 1 }], Buffer.of(1)),
  });
  return diskBytes({ tree: { root }, contents: maker.contents });
}

async function inodeAt(disk: Buffer, wanted: string): Promise<DiskInode> {
  for await (const { path, inode } of walkDisk(await DiskReader.open(bufferSource(disk))))
    if (path === wanted) return inode;
  throw new Error(`no ${wanted}`);
}

test('a sound disk, summed up', async () => {
  const summary = await checkDisk(bufferSource(sampleDisk()));
  assert.deepEqual(summary, {
    inodeCount: 307,
    directoryCount: 3,
    contentBytes: 13 + 20_000 + 300_000,
  });
});

test('link counts and the count of inodes', async () => {
  const refused = async (path: string, linkCount: number, message: RegExp): Promise<void> => {
    const disk = sampleDisk();
    const inode = await inodeAt(disk, path);
    disk.writeUInt16LE(linkCount, inode.offsetBytes + 6);
    writeChecksum(disk);
    await assert.rejects(checkDisk(bufferSource(disk)), { code: 'CORRUPT', message }, path);
  };
  const says = (path: string, count: number) =>
    new RegExp(`^Cannot walk ${path}: inode \\d+ at byte \\d+ has .* and says ${count}$`);
  await refused('/', 3, says('/', 3));
  await refused('/many', 3, says('/many', 3));
  await refused('/linked', 1, says('/linked', 1));
  await refused('/linked', 3, says('/a/linked', 3));
  await refused('/sparse', 0, says('/sparse', 0));
  const disk = sampleDisk();
  disk.writeUInt32LE(306, 1024 + 16);
  writeChecksum(disk);
  const message = /has 307 inodes, its superblock says 306/;
  await assert.rejects(checkDisk(bufferSource(disk)), { code: 'CORRUPT', message });
});

test('attributes and extents are looked at, and named by path', async () => {
  const shared = sampleDisk();
  const labelled = await inodeAt(shared, '/b');
  shared.writeUInt32LE(0x0fffffff, labelled.xattrOffsetBytes + 12);
  writeChecksum(shared);
  await assert.rejects(checkDisk(bufferSource(shared)), {
    code: 'CORRUPT',
    message: /^Cannot walk \/b: cannot read shared extended attribute/,
  });
  const sparse = sampleDisk();
  const { bodyOffsetBytes } = await inodeAt(sparse, '/sparse');
  sparse.writeUInt32LE(0xfffffff0, bodyOffsetBytes);
  writeChecksum(sparse);
  await assert.rejects(checkDisk(bufferSource(sparse)), {
    code: 'CORRUPT',
    message: /^Cannot walk \/sparse: cannot read inode \d+ at byte \d+: chunk 0 is beyond/,
  });
});

test('inodes that overlap are refused before they cost more than the disk is large', async () => {
  const maker = new TreeMaker();
  const given = { xattrs: new Map([['user.a' as ByteString, Buffer.alloc(60_000)]]) };
  const root = maker.directory({ a: maker.file('', given) });
  for (let i = 0; i < 50; i++)
    root.entries.set(`b${String(i).padStart(2, '0')}` as ByteString, maker.fifo());
  const disk = diskBytes({ tree: { root }, contents: maker.contents });
  const top = await inodeAt(disk, '/');
  const host = await inodeAt(disk, '/a');
  const block = Math.ceil(host.bodyOffsetBytes / 4096 - 2) * 4096;
  // Small files in the attribute's value, one in each slot, each with the rest of the block inline.
  for (let i = 0; i < 50; i++) {
    const at = block + i * 32;
    disk.writeUInt16LE(2 << 1, at);
    disk.writeUInt16LE(0o100644, at + 4);
    disk.writeUInt16LE(1, at + 6);
    disk.writeUInt32LE(4096 - i * 32 - 32, at + 8);
    // Entries stand in the order ".", "..", "a", "b00", …
    const entry = top.bodyOffsetBytes + (3 + i) * 12;
    disk.writeBigUInt64LE(BigInt(at / 32), entry);
    disk.writeUInt8(1, entry + 10);
  }
  writeChecksum(disk);
  const message = /^Cannot walk \/b\d\d: inodes overlap/;
  await assert.rejects(checkDisk(bufferSource(disk)), { code: 'CORRUPT', message });
});

test('an aborted check ends', async () => {
  const aborted = AbortSignal.abort(new Error('enough'));
  await assert.rejects(checkDisk(bufferSource(sampleDisk()), { signal: aborted }), {
    message: 'enough',
  });
});

/** Runs everything that reads on a damaged disk: an answer or an ImgstoreError, nothing else. */
async function readAll(disk: Buffer, seed: string): Promise<'sound' | 'refused'> {
  try {
    await checkDisk(bufferSource(disk));
    await listDisk(bufferSource(disk));
    return 'sound';
  } catch (error) {
    const { name, code } = error as { name?: string; code?: string };
    assert.equal(name, 'ImgstoreError', `${seed}: ${(error as Error).stack}`);
    assert.match(code!, /^(CORRUPT|UNSUPPORTED|LIMIT)$/, seed);
    return 'refused';
  }
}

test('mutated disks are read or refused, and never anything else', async () => {
  const disks = [sampleDisk()];
  for (const random of seeded(4, 50)) disks.push(diskBytes(randomTree(random, 60)));
  let refused = 0;
  for (const random of seeded(400)) {
    const disk = Buffer.from(random.pick(disks));
    const metadataEnd = Math.min(disk.length, 32 * 1024);
    for (let i = random.between(1, 6); i > 0; i--) {
      const at = random.between(1024, metadataEnd - 8);
      if (random.chance(0.3)) disk.writeUInt32LE(random.pick([0, 0xffffffff, 1, 36, 4096]), at);
      else disk[at] = random.pick([0, 1, 2, 4, 0x7f, 0x80, 0xff, random.below(256)]);
    }
    writeChecksum(disk);
    if ((await readAll(disk, `seed ${random.seed}`)) === 'refused') refused++;
  }
  assert.ok(refused > 50, `${refused} refused`);
});

test('disks cut off anywhere are refused', async () => {
  const disk = sampleDisk();
  for (let length = 0; length < disk.length; length += 1000)
    assert.equal(await readAll(disk.subarray(0, length), `${length}`), 'refused');
});
