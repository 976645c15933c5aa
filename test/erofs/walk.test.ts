import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DiskReader } from '../../src/erofs/reader.ts';
import { writeChecksum } from '../../src/erofs/superblock.ts';
import { walkDisk } from '../../src/erofs/walk.ts';
import { bufferSource, diskBytes, TreeMaker } from '../support/disk-file.ts';

const maker = new TreeMaker();

function sampleDisk(): Buffer {
  const root = maker.directory({
    a: maker.directory({ b: maker.directory({ c: maker.directory({ file: maker.fifo() }) }) }),
    d: maker.directory({ '!': maker.fifo() }),
    e: maker.fifo(),
  });
  return diskBytes({ tree: { root }, contents: maker.contents });
}

async function walked(disk: Buffer): Promise<{ path: string; nid: number; at: number }[]> {
  const reader = await DiskReader.open(bufferSource(disk));
  const entries = await Array.fromAsync(walkDisk(reader));
  return entries.map(({ path, inode }) => ({ path, nid: inode.nid, at: inode.bodyOffsetBytes }));
}

test('every path, in order', async () => {
  const paths = (await walked(sampleDisk())).map(({ path }) => path);
  const expected = ['/', '/a', '/a/b', '/a/b/c', '/a/b/c/file', '/d', '/d/!', '/e'];
  assert.deepEqual(paths, expected);
});

/** Sets the nid or the name of an entry of a directory whose entries are behind its inode. */
async function damagedWalk(
  directory: string,
  entry: string,
  change: { nid?: string | number; name?: string; type?: number },
): Promise<void> {
  const disk = sampleDisk();
  const found = await walked(disk);
  const block = found.find(({ path }) => path === directory)!.at;
  const count = disk.readUInt16LE(block + 8) / 12;
  let at = block;
  const nameAt = () => block + disk.readUInt16LE(at + 8);
  for (let i = 0; i < count; i++, at += 12) {
    const end = i + 1 < count ? block + disk.readUInt16LE(at + 20) : nameAt() + entry.length;
    if (disk.toString('latin1', nameAt(), end) === entry) break;
  }
  const { nid, name, type } = change;
  const target = typeof nid === 'string' ? found.find(({ path }) => path === nid)!.nid : nid;
  if (target !== undefined) disk.writeBigUInt64LE(BigInt(target), at);
  if (name !== undefined) disk.write(name, nameAt(), 'latin1');
  if (type !== undefined) disk.writeUInt8(type, at + 10);
  writeChecksum(disk);
  await walked(disk);
}

test('a directory that holds itself, or stands twice, ends the walk', async () => {
  const twice = { code: 'CORRUPT', message: /another path too/ };
  await assert.rejects(damagedWalk('/a/b', 'c', { nid: '/a' }), twice);
  await assert.rejects(damagedWalk('/a/b', 'c', { nid: '/a/b' }), twice);
  await assert.rejects(damagedWalk('/a/b', 'c', { nid: '/' }), twice);
  await assert.rejects(damagedWalk('/', 'd', { nid: '/a' }), twice);
});

test('wrong and missing dots', async () => {
  const leads = { code: 'CORRUPT', message: /^Cannot walk \/a\/b: its entry \.\.? leads to/ };
  await assert.rejects(damagedWalk('/a/b', '.', { nid: '/a' }), leads);
  await assert.rejects(damagedWalk('/a/b', '..', { nid: '/' }), leads);
  await assert.rejects(damagedWalk('/a/b', '..', { type: 1 }), leads);
  const missing = { code: 'CORRUPT', message: /^Cannot walk \/a\/b: .*no entry for itself/ };
  await assert.rejects(damagedWalk('/a/b', '.', { name: '-', nid: '/e', type: 5 }), missing);
});

test('an entry out of order, of another type, or to nowhere', async () => {
  const order = { code: 'CORRUPT', message: /^Cannot walk \/: .*out of order/ };
  await assert.rejects(damagedWalk('/', 'a', { name: 'z' }), order);
  await assert.rejects(damagedWalk('/', 'd', { name: 'a' }), order);
  const type = { code: 'CORRUPT', message: /^Cannot walk \/e: its directory says file/ };
  await assert.rejects(damagedWalk('/', 'e', { type: 1 }), type);
  await damagedWalk('/', 'e', { type: 0 });
  const nowhere = { code: 'CORRUPT', message: /^Cannot walk \/e: cannot read inode 99999 at byte/ };
  await assert.rejects(damagedWalk('/', 'e', { nid: 99_999 }), nowhere);
});

test('faults of the source are passed on as they are', async () => {
  const disk = bufferSource(sampleDisk());
  let reads = 0;
  const fault = new Error('the network is gone');
  const source = {
    sizeBytes: disk.sizeBytes,
    read: async (offset: number, length: number) => {
      if (reads++ > 0) throw fault;
      return disk.read(offset, Math.min(length, 4096)).then(async () => disk.read(offset, length));
    },
  };
  const reader = await DiskReader.open(source);
  assert.equal((await Array.fromAsync(walkDisk(reader))).length, 8, 'one page is enough');
  reads = 1;
  await assert.rejects(DiskReader.open(source), fault);
});
