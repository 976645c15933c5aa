import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GiB, KiB, MiB, TiB } from '../../src/base/limits.ts';
import {
  chunkFormatOf,
  chunkMapMaxBytes,
  type Extent,
  type FileShape,
  holeGranularityBytes,
  shapeOf,
  writeChunkMap,
} from '../../src/erofs/placement.ts';

const extent = (fileOffsetBytes: number, lengthBytes: number, dataOffsetBytes: number): Extent => ({
  fileOffsetBytes,
  lengthBytes,
  dataOffsetBytes,
});

function shape(sizeBytes: number, ...extents: Extent[]): FileShape {
  return shapeOf({ kind: 'extents', extents }, sizeBytes, TiB);
}

test('the granularity of holes keeps a map within its limit, and is no larger than it must', () => {
  assert.equal(holeGranularityBytes(0), 64 * KiB);
  assert.equal(holeGranularityBytes(1 * GiB), 64 * KiB);
  assert.equal(holeGranularityBytes(1 * GiB + 1), 128 * KiB);
  assert.equal(holeGranularityBytes(5 * GiB), 512 * KiB);
  assert.equal(holeGranularityBytes(8 * TiB), 512 * MiB);
  for (let size = 1; size < Number.MAX_SAFE_INTEGER; size *= 1.7) {
    const unit = holeGranularityBytes(size);
    assert.ok(Math.ceil(size / unit) * 4 <= chunkMapMaxBytes, `${size}`);
    assert.ok(chunkFormatOf(unit) <= 31, `${size}`);
  }
});

test('one extent over the whole file is flat, also in parts', () => {
  assert.deepEqual(shape(5000, extent(0, 5000, 8192)), { kind: 'flat', dataOffsetBytes: 8192 });
  const parts = [extent(0, 65_536, 4096), extent(65_536, 1000, 4096 + 65_536)];
  assert.deepEqual(shape(66_536, ...parts), { kind: 'flat', dataOffsetBytes: 4096 });
});

test('parts that lie apart, and holes, need chunks', () => {
  const apart = shape(66_536, extent(0, 65_536, 4096), extent(65_536, 1000, 1 * MiB));
  assert.equal(apart.kind, 'chunks');
  const hole = shape(200_000, extent(131_072, 68_928, 0));
  assert.ok(hole.kind === 'chunks' && hole.chunkSizeBytes === 131_072 && hole.entryCount === 2);
});

test('the chunk is the largest that the extents allow', () => {
  const sizeOf = (shaped: FileShape) => shaped.kind === 'chunks' && shaped.chunkSizeBytes;
  assert.equal(sizeOf(shape(GiB, extent(512 * MiB, 512 * MiB, 0))), 512 * MiB);
  assert.equal(sizeOf(shape(GiB, extent(512 * MiB, 64 * KiB, 0))), 64 * KiB);
  assert.equal(sizeOf(shape(10 * MiB)), 16 * MiB);
  assert.equal(sizeOf(shape(8 * TiB)), 2 * GiB);
  assert.equal(sizeOf(shape(2 ** 53 - 1)), holeGranularityBytes(2 ** 53 - 1));
});

test('a map says where each chunk begins', () => {
  const shaped = shape(
    64 * KiB * 5 + 10,
    extent(0, 64 * KiB, 8192),
    extent(128 * KiB, 128 * KiB, 1 * MiB),
    extent(320 * KiB, 10, 4096),
  );
  assert.ok(shaped.kind === 'chunks');
  assert.equal(shaped.chunkSizeBytes, 64 * KiB);
  const map = Buffer.alloc(6 * 4);
  writeChunkMap(map, 0, shaped, 100);
  const blocks = Array.from({ length: 6 }, (_, i) => map.readUInt32LE(i * 4));
  assert.deepEqual(blocks, [102, 0xffffffff, 100 + 256, 100 + 256 + 16, 0xffffffff, 101]);
});

test('an empty file is inline, however it is placed', () => {
  assert.equal(shape(0).kind, 'inline');
});

test('a placement that breaks its rules is a bug', () => {
  const bug = (place: () => FileShape): void =>
    assert.throws(place, { name: 'AssertionError' }, String(place));
  bug(() => shapeOf({ kind: 'inline', bytes: Buffer.alloc(5) }, 6, 0));
  bug(() => shapeOf({ kind: 'inline', bytes: Buffer.alloc(513) }, 513, 0));
  bug(() => shape(5000, extent(0, 5000, 100)));
  bug(() => shape(5000, extent(0, 5001, 0)));
  bug(() => shape(5000, extent(0, 0, 0)));
  bug(() => shape(200_000, extent(4096, 195_904, 0)));
  bug(() => shape(200_000, extent(0, 4096, 0)));
  bug(() => shape(200_000, extent(65_536, 65_536, 0), extent(0, 65_536, 0)));
  bug(() => shape(200_000, extent(0, 131_072, 0), extent(65_536, 134_464, 0)));
  bug(() => shapeOf({ kind: 'extents', extents: [extent(0, 5000, 0)] }, 5000, 4096));
});
