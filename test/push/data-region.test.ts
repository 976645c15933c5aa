import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ChunkTicket } from '../../src/push/chunk-uploader.ts';
import { DataRegion } from '../../src/push/data-region.ts';
import type { FileContent } from '../../src/tree/tree.ts';

const ticket = (plainSizeBytes: number): ChunkTicket => {
  return { key: Buffer.alloc(32), plainSizeBytes, stored: undefined };
};
const content = (ordinal: number, sizeBytes: number): FileContent => {
  return { ordinal, sizeBytes, runs: undefined };
};
const piece = (chunk: number, fileOffsetBytes: number, lengthBytes: number) => {
  return { chunk, chunkOffsetBytes: 0, fileOffsetBytes, lengthBytes };
};

test('pieces that follow each other in file and region are one extent', () => {
  const region = new DataRegion();
  const chunks = [100_000, 50_000, 12_288].map(ticket);
  chunks.forEach((chunk, number) => {
    assert.equal(region.append(chunk), number);
    assert.equal(region.chunk(number), chunk);
  });
  assert.equal(region.sizeBytes, 162_288);
  const file = content(7, 300_000);
  const pieces = [piece(0, 0, 100_000), piece(1, 100_000, 50_000), piece(2, 262_144, 10_000)];
  region.record(file, { kind: 'pieces', pieces });
  const { placementOf, sizeBytes } = region.layout([file]);
  assert.equal(sizeBytes, 162_288);
  assert.deepEqual(placementOf(file), {
    kind: 'extents',
    extents: [
      { fileOffsetBytes: 0, lengthBytes: 150_000, dataOffsetBytes: 0 },
      { fileOffsetBytes: 262_144, lengthBytes: 10_000, dataOffsetBytes: 150_000 },
    ],
  });
});

test('offsets close up over chunks that are left out', () => {
  const region = new DataRegion();
  for (const size of [4096, 8192, 4096]) region.append(ticket(size));
  const [first, second, third] = [content(0, 4000), content(1, 8000), content(2, 4000)];
  region.record(first, { kind: 'pieces', pieces: [piece(0, 0, 4000)] });
  region.record(second, { kind: 'pieces', pieces: [piece(1, 0, 8000)] });
  region.record(third, { kind: 'pieces', pieces: [piece(2, 0, 4000)] });
  const { chunks, placementOf, sizeBytes } = region.layout([third, first]);
  assert.equal(sizeBytes, 8192);
  assert.deepEqual(chunks, [region.chunk(0), region.chunk(2)]);
  assert.deepEqual(placementOf(third), {
    kind: 'extents',
    extents: [{ fileOffsetBytes: 0, lengthBytes: 4000, dataOffsetBytes: 4096 }],
  });
});

test('a content that was never delivered is a bug', () => {
  assert.throws(() => new DataRegion().layout([content(3, 10)]), /content 3 was delivered/);
});
