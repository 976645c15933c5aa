/** The reader on disks of mkfs.erofs, with the kernel as judge, and on single damaged places. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  linkSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { ByteString } from '../../src/base/byte-string.ts';
import { checkDisk } from '../../src/erofs/check.ts';
import { type DiskInode, DiskReader, type FileExtent } from '../../src/erofs/reader.ts';
import { writeChecksum } from '../../src/erofs/superblock.ts';
import { bufferSource, diskBytes, FileSource, TreeMaker } from '../support/disk-file.ts';
import { assertSameListing, listDisk, listMounted, withMounted } from '../support/disk-listing.ts';
import { Random } from '../support/random.ts';

function temporaryDir(context: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'imgstore-reader-'));
  context.after(() => rmSync(dir, { recursive: true }));
  return dir;
}

/** user::rw-, user:1000:r-x, group::r--, mask::rwx, other::r-- as the kernel takes it. */
const acl =
  '0200000001000600ffffffff02000500e803000004000400ffffffff10000700ffffffff20000400ffffffff';

/** One of everything that mkfs.erofs can be asked to store. */
function makeSource(dir: string): void {
  mkdirSync(join(dir, 'sub', 'empty'), { recursive: true });
  mkdirSync(join(dir, 'many'));
  for (let i = 0; i < 600; i++) writeFileSync(join(dir, 'many', `file with number ${i}`), `${i}`);
  for (const size of [0, 1, 4095, 4096, 5000, 300_000])
    writeFileSync(join(dir, `f${size}`), new Random(size).bytes(size));
  writeFileSync(join(dir, 'sparse'), 'start');
  truncateSync(join(dir, 'sparse'), 10_000_000);
  linkSync(join(dir, 'f5000'), join(dir, 'sub', 'hard'));
  symlinkSync('f5000', join(dir, 'soft'));
  symlinkSync('x'.repeat(4095), join(dir, 'long'));
  const run = (...args: string[]) => execFileSync(args[0]!, args.slice(1), { cwd: dir });
  run('mknod', 'null', 'c', '1', '3');
  run('mknod', 'disk', 'b', '259', '70000');
  run('mkfifo', 'pipe');
  run('python3', '-c', 'import socket; socket.socket(socket.AF_UNIX).bind("socket")');
  run('chown', '--no-dereference', '7000:5', 'f1', 'soft');
  run('chmod', '4755', 'f4096');
  const labelled = ['f0', 'f1', 'f5000', 'sub', 'many', 'soft'];
  for (const name of labelled) run('setfattr', '-h', '-n', 'trusted.label', '-v', 'same', name);
  run('setfattr', '-n', 'user.own', '-v', 'x'.repeat(1500), 'f1');
  run('setfattr', '-n', 'system.posix_acl_access', '-v', `0x${acl}`, 'f4096');
  for (const name of ['f0', 'many']) lutimesSync(join(dir, name), 1, 1_500_000_000.25);
}

const variants: Record<string, string[]> = {
  'as it comes': [],
  'compact inodes': ['-Eforce-inode-compact'],
  'extended inodes': ['-Eforce-inode-extended'],
  'chunks of 4 KiB by index': ['--chunksize=4096'],
  'chunks of 64 KiB by map': ['--chunksize=65536', '-Eforce-chunk-indexes'],
  'a given time': ['-T1000000'],
  'no inline attributes': ['-x1'],
};

test('disks of mkfs.erofs are as the kernel shows them', async context => {
  const dir = temporaryDir(context);
  const sourceDir = join(dir, 'source');
  mkdirSync(sourceDir);
  makeSource(sourceDir);
  for (const [name, options] of Object.entries(variants)) {
    await context.test(name, async () => {
      const path = join(dir, name);
      const args = ['--quiet', ...options, path, sourceDir];
      execFileSync('mkfs.erofs', args, { stdio: 'pipe' });
      using source = new FileSource(path, statSync(path).size);
      const listing = await listDisk(source);
      assert.equal(listing.size, 618);
      withMounted(path, mounted => assertSameListing(listMounted(mounted), listing, 'Linux'));
      assert.equal((await checkDisk(source)).inodeCount, 617);
    });
  }
});

const maker = new TreeMaker();

/** Inodes of one kind each, and all bytes of their disk. */
async function smallDisk() {
  const file = maker.file(new Random(1).bytes(10_000), { mtimeSeconds: 1 });
  const sparse = maker.sparse(
    400_000,
    [
      { offsetBytes: 0, lengthBytes: 10 },
      { offsetBytes: 200_000, lengthBytes: 10 },
    ],
    Buffer.alloc(20, 'x'),
  );
  const label = new Map([['trusted.label' as ByteString, Buffer.alloc(50, 'l')]]);
  const root = maker.directory({
    directory: maker.directory({ inside: maker.fifo({ xattrs: label }) }, { xattrs: label }),
    file,
    inline: maker.file('some text'),
    link: maker.symlink('to some place'),
    sparse,
  });
  const bytes = diskBytes({ tree: { root }, contents: maker.contents });
  const find = async (name: string): Promise<DiskInode> => {
    const reader = await DiskReader.open(bufferSource(bytes));
    const entry = await reader.lookup(await reader.root(), name as ByteString);
    return reader.inode(entry!.nid);
  };
  return { bytes, find };
}

async function open(bytes: Buffer): Promise<DiskReader> {
  writeChecksum(bytes);
  return DiskReader.open(bufferSource(bytes));
}

async function extentsOf(bytes: Buffer, file: DiskInode): Promise<FileExtent[]> {
  return Array.fromAsync((await open(bytes)).extents(file));
}

test('extents of files in blocks, behind the inode and in chunks', async () => {
  const { bytes, find } = await smallDisk();
  const [flat, ...more] = await extentsOf(bytes, await find('file'));
  assert.deepEqual(more, []);
  assert.equal(flat!.lengthBytes, 10_000);
  const start = flat!.diskOffsetBytes!;
  assert.ok(bytes.subarray(start, start + 10_000).equals(new Random(1).bytes(10_000)));
  const inline = await find('inline');
  const diskOffsetBytes = inline.bodyOffsetBytes;
  assert.deepEqual(await extentsOf(bytes, inline), [
    { fileOffsetBytes: 0, lengthBytes: 9, diskOffsetBytes },
  ]);
  assert.equal(bytes.toString('latin1', diskOffsetBytes, diskOffsetBytes + 9), 'some text');
  const runs = await extentsOf(bytes, await find('sparse'));
  assert.deepEqual(
    runs.map(({ fileOffsetBytes, lengthBytes, diskOffsetBytes: at }) => [
      fileOffsetBytes,
      lengthBytes,
      at === undefined,
    ]),
    [
      [0, 65_536, false],
      [65_536, 131_072, true],
      [196_608, 65_536, false],
      [262_144, 137_856, true],
    ],
  );
});

test('no disk, a foreign one, and one cut short', async () => {
  const { bytes } = await smallDisk();
  const opened = (disk: Buffer) => DiskReader.open(bufferSource(disk));
  await assert.rejects(opened(Buffer.alloc(0)), { code: 'CORRUPT' });
  await assert.rejects(opened(Buffer.alloc(100)), { code: 'CORRUPT' });
  await assert.rejects(opened(Buffer.alloc(8192)), { code: 'UNSUPPORTED' });
  const message = /has 8192 bytes, its superblock says/;
  await assert.rejects(opened(bytes.subarray(0, 8192)), { code: 'CORRUPT', message });
  const longer = await opened(Buffer.concat([bytes, Buffer.alloc(512)]));
  assert.equal((await longer.root()).kind, 'directory');
});

test('inodes that reach beyond the disk, or are none, are refused by their reason', async () => {
  const { bytes, find } = await smallDisk();
  const refused = async (
    name: string,
    damage: (disk: Buffer, inode: DiskInode) => void,
    code: string,
    message: RegExp,
  ): Promise<void> => {
    const inode = await find(name);
    const disk = Buffer.from(bytes);
    damage(disk, inode);
    const reader = await open(disk);
    const use = async (): Promise<void> => {
      const again = await reader.inode(inode.nid);
      await reader.xattrs(again);
      if (again.kind === 'file') await Array.fromAsync(reader.extents(again));
      if (again.kind === 'symlink') await reader.readlink(again);
      if (again.kind === 'directory') await Array.fromAsync(reader.entryBlocks(again));
    };
    await assert.rejects(use, { name: 'ImgstoreError', code, message }, name);
  };
  const size = 8;
  const data = 16;
  const count = bytes.length / 4096;
  await refused(
    'file',
    (disk, { offsetBytes }) => {
      disk.writeUInt32LE(count - 2, offsetBytes + data);
    },
    'CORRUPT',
    /its data is beyond the end/,
  );
  await refused(
    'file',
    (disk, { offsetBytes }) => {
      disk.writeBigUInt64LE(2n ** 52n, offsetBytes + size);
    },
    'CORRUPT',
    /its data is beyond the end/,
  );
  await refused(
    'link',
    (disk, { offsetBytes }) => {
      disk.writeUInt32LE(0, offsetBytes + size);
    },
    'CORRUPT',
    /target has 0 bytes/,
  );
  await refused(
    'link',
    (disk, { offsetBytes }) => {
      disk.writeUInt32LE(4096, offsetBytes + size);
    },
    'CORRUPT',
    /target has 4096 bytes/,
  );
  await refused(
    'link',
    (disk, { bodyOffsetBytes }) => {
      disk.writeUInt8(0, bodyOffsetBytes + 3);
    },
    'CORRUPT',
    /target has a zero byte/,
  );
  await refused(
    'inline',
    (disk, { offsetBytes }) => {
      disk.writeUInt32LE(4095, offsetBytes + size);
    },
    'CORRUPT',
    /inline data crosses a block/,
  );
  await refused(
    'inline',
    (disk, { offsetBytes }) => {
      disk.writeUInt16LE(0xffff, offsetBytes + 2);
    },
    'CORRUPT',
    /beyond the end|extended attribute|crosses a block/,
  );
  await refused(
    'sparse',
    (disk, { offsetBytes }) => {
      disk.writeUInt32LE(0x40, offsetBytes + data);
    },
    'UNSUPPORTED',
    /chunk format 0x40/,
  );
  await refused(
    'sparse',
    (disk, { offsetBytes }) => {
      disk.writeUInt32LE(0x24, offsetBytes + data);
    },
    'UNSUPPORTED',
    /another device/,
  );
  await refused(
    'sparse',
    (disk, { bodyOffsetBytes }) => {
      disk.writeUInt32LE(count - 15, bodyOffsetBytes);
    },
    'CORRUPT',
    /chunk 0 is beyond the end/,
  );
  await refused(
    'sparse',
    (disk, { offsetBytes }) => {
      disk.writeUInt32LE(0xffffffff, offsetBytes + size);
    },
    'CORRUPT',
    /reaches beyond the end/,
  );
  await refused(
    'sparse',
    (disk, { offsetBytes }) => {
      disk.writeUInt32LE(0xffffffff, offsetBytes + size);
      disk.writeUInt32LE(0x20, offsetBytes + data);
    },
    'LIMIT',
    /chunk map has 1048576 entries/,
  );
  await refused(
    'directory',
    (disk, { offsetBytes }) => {
      disk.writeUInt32LE(0, offsetBytes + size);
    },
    'CORRUPT',
    /directory without entries/,
  );
  await refused(
    'directory',
    (disk, { offsetBytes }) => {
      disk.writeUInt16LE(4 << 1, offsetBytes);
    },
    'UNSUPPORTED',
    /directory in chunks/,
  );
  await refused(
    'directory',
    (disk, { xattrOffsetBytes }) => {
      disk.writeUInt32LE(0xffffffff, xattrOffsetBytes + 12);
    },
    'CORRUPT',
    /shared extended attribute 4294967295 of inode.*beyond/,
  );
});

test('a nid that is nowhere', async () => {
  const reader = await open((await smallDisk()).bytes);
  for (const nid of [0, 1, 31, 2 ** 32, Number.MAX_SAFE_INTEGER])
    await assert.rejects(reader.inode(nid), { code: 'CORRUPT', message: /not on the disk/ });
});
