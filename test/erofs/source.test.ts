import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DiskSource, PagedSource } from '../../src/erofs/source.ts';
import { Random } from '../support/random.ts';

function counted(bytes: Buffer): DiskSource & { reads: number; fails: boolean } {
  return {
    sizeBytes: bytes.length,
    reads: 0,
    fails: false,
    async read(offsetBytes, lengthBytes) {
      this.reads++;
      if (this.fails) throw new Error('the source fails');
      return bytes.subarray(offsetBytes, offsetBytes + lengthBytes);
    },
  };
}

test('any range is read, over pages and up to the end', async () => {
  const bytes = new Random(1).bytes(300_001);
  const pages = new PagedSource(counted(bytes));
  const random = new Random(2);
  for (let i = 0; i < 500; i++) {
    const offset = random.below(bytes.length);
    const length = random.below(Math.min(150_000, bytes.length - offset + 1));
    const read = await pages.read(offset, length, 'it');
    assert.ok(read.equals(bytes.subarray(offset, offset + length)), `${offset} ${length}`);
  }
});

test('a page is read once while it is used, at once or one after another', async () => {
  const source = counted(Buffer.alloc(300_000));
  const pages = new PagedSource(source);
  await Promise.all(Array.from({ length: 20 }, (_, i) => pages.read(i * 100, 50, 'it')));
  await pages.read(65_000, 10, 'it');
  assert.equal(source.reads, 1);
  await pages.read(65_500, 100, 'it');
  assert.equal(source.reads, 2);
});

test('pages are kept up to a bound', async () => {
  const source = counted(Buffer.alloc(10_000_000));
  const pages = new PagedSource(source);
  for (let round = 0; round < 2; round++)
    for (let at = 0; at < source.sizeBytes; at += 65_536) await pages.read(at, 1, 'it');
  assert.equal(source.reads, 2 * Math.ceil(10_000_000 / 65_536));
});

test('a fault is passed on and not kept', async () => {
  const source = counted(Buffer.alloc(1000));
  const pages = new PagedSource(source);
  source.fails = true;
  await assert.rejects(pages.read(0, 10, 'it'), { message: 'the source fails' });
  source.fails = false;
  assert.equal((await pages.read(0, 10, 'it')).length, 10);
});

test('beyond the end, and less than was asked for', async () => {
  const pages = new PagedSource(counted(Buffer.alloc(1000)));
  await assert.rejects(pages.read(990, 11, 'inode 7'), { code: 'CORRUPT', message: /inode 7/ });
  const short = { sizeBytes: 1000, read: async () => Buffer.alloc(999) };
  await assert.rejects(new PagedSource(short).read(0, 1, 'it'), { code: 'CORRUPT' });
});
