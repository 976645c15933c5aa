/**
 * The name of the pipeline and what it stands for. If the figures change, images that were pushed
 * before would now give other disks or chunks: raise the part of the name that says so, and put the
 * new figures here.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sha256, sha256Hex } from '../../src/base/digest.ts';
import { pipelineId } from '../../src/push/pipeline.ts';
import { pushImage } from '../../src/push/push.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { diskOf, TestImage, targetOn } from '../support/pushing.ts';
import type { LayerEntry } from '../support/tar-builder.ts';

const expected = {
  pipelineId: 'flatten-1 erofs-1 inline-512 pack-64 cut-1:64/256/1024 seal-1',
  disk: '51fb122e3f5f4b15e472fa654723bdcfc19ed5eedc1e1c2b99819c5bfea2e298',
  chunkKeys: 'cdf0a839c76fc66cf7bcf635a5ba5176ae3987bed71411c63a6d3085afaf3a4d',
  chunks: 13,
};

/** Bytes that no later change of the tests' own tools changes: SHA-256 of a text and a counter. */
function bytesOf(text: string, sizeBytes: number): Buffer {
  const blocks = Array.from({ length: Math.ceil(sizeBytes / 32) }, (_, i) =>
    sha256(Buffer.from(`${text} ${i}`)),
  );
  return Buffer.concat(blocks).subarray(0, sizeBytes);
}

test('the disk and the chunks that the name stands for', async () => {
  const sizes = [0, 1, 512, 513, 4096, 20_000, 65_535, 65_536, 1_500_000];
  const lower: LayerEntry[] = [
    { path: 'a', type: 'directory', mode: 0o700, uid: 1, gid: 2, mtimeSeconds: 1_600_000_000 },
    ...sizes.map((size): LayerEntry => ({ path: `a/${size}`, content: bytesOf('low', size) })),
    ...Array.from({ length: 40 }, (_, i): LayerEntry => {
      return { path: `pack/${i}`, content: bytesOf(`pack ${i}`, 700 * i) };
    }),
    { path: 'holes', content: Buffer.concat([Buffer.alloc(200_000), bytesOf('end', 100)]) },
    { path: 'link', type: 'symlink', target: 'a/512' },
    { path: 'hard', type: 'hard-link', target: 'a/513' },
  ];
  const upper: LayerEntry[] = [
    { path: 'a/.wh.4096' },
    { path: 'pack/7', content: bytesOf('upper', 9000), xattrs: { 'user.x': 'y' } },
    { path: 'pack/copy', content: bytesOf('pack 9', 6300) },
  ];
  const target = await targetOn(new MemoryStore(), 'pinned');
  await pushImage(new TestImage([lower, upper]), target);
  const { recipe } = await target.catalog.open(target.name);
  const disk = diskOf(recipe, target.roots);
  const chunks = recipe.segments.filter(segment => segment.kind === 'chunk');
  assert.deepEqual(
    {
      pipelineId: recipe.details.pipeline,
      disk: sha256Hex(await disk.readBuffer(0, disk.sizeBytes)),
      chunkKeys: sha256Hex(Buffer.concat(chunks.map(({ key }) => key))),
      chunks: chunks.length,
    },
    expected,
  );
  assert.equal(pipelineId, expected.pipelineId);
});
