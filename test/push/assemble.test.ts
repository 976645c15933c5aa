/** Random trees on their way through the whole of push and back through image and erofs. */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { KiB } from '../../src/base/limits.ts';
import { type DiskInode, DiskReader } from '../../src/erofs/reader.ts';
import { walkDisk } from '../../src/erofs/walk.ts';
import { diskSource } from '../../src/image/disk-source.ts';
import type { LazyDisk } from '../../src/image/lazy-disk.ts';
import { assembleDisk } from '../../src/push/assemble.ts';
import { ChunkUploader } from '../../src/push/chunk-uploader.ts';
import { ContentWriter } from '../../src/push/content-writer.ts';
import { DataRegion } from '../../src/push/data-region.ts';
import type { Recipe } from '../../src/recipe/recipe.ts';
import type { DataRun, Directory, FileContent } from '../../src/tree/tree.ts';
import { regularFiles } from '../../src/tree/walk.ts';
import { type PlacedTree, TreeMaker } from '../support/disk-file.ts';
import { assertSameListing, fsck, listDisk, listTree } from '../support/disk-listing.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { diskOf, manyBytes, salt, targetOn } from '../support/pushing.ts';
import { Random, seeded } from '../support/random.ts';
import { randomTree } from '../support/random-tree.ts';
import { sealingHere } from '../support/sealing-here.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { split } from './support.ts';

interface Pushed {
  recipe: Recipe;
  disk: LazyDisk;
}

/**
 * Pushes a tree by itself, contents in the order of their ordinals. `choices` says where layers end
 * and which contents come that no file has; `splits` in which pieces they come.
 */
async function push(
  { tree, contents }: PlacedTree,
  choices: Random,
  splits: Random,
): Promise<Pushed> {
  const { roots } = await targetOn(new MemoryStore(), 'tree');
  const root = await roots.active();
  await using uploader = new ChunkUploader({
    sealer: sealingHere,
    chunks: root.chunks,
    salt: salt.bytes,
    known: new Map(),
    chunksInFlightMax: 3,
    rewrite: false,
  });
  const region = new DataRegion();
  const writer = new ContentWriter(region, uploader);
  const files = new Map([...regularFiles(tree)].map(({ content }) => [content.ordinal, content]));
  for (const [ordinal, data] of contents) {
    const content = files.get(ordinal);
    if (content === undefined && choices.chance(0.5)) continue;
    await writer.begin(content ?? { ordinal, sizeBytes: data.length, runs: undefined });
    for (const part of split(data, splits)) await writer.write(part);
    await writer.end();
    if (choices.chance(0.1)) await writer.layerEnd();
  }
  await writer.layerEnd();
  const { inodeCount, contentBytes, ...disk } = await assembleDisk(tree, region, uploader);
  const details = { kind: 'oci', pipeline: 'test', saltId: salt.id, inodeCount, contentBytes };
  const recipe = { ...disk, details } as Recipe;
  return { recipe, disk: diskOf(recipe, roots) };
}

/** A random tree with files of the sizes at which push changes its ways. */
function treeWithLargeFiles(random: Random): PlacedTree {
  const maker = new TreeMaker();
  const small = randomTree(random, 80);
  const entries: Record<string, ReturnType<TreeMaker['file']>> = {};
  // Ordinals go on where those of the small tree end.
  for (const data of small.contents.values()) maker.file(data);
  for (let i = random.below(8); i > 0; i--) {
    const around = random.pick([64 * KiB, 1024 * KiB, 3000 * KiB]);
    const sizeBytes = random.pick([around - 1, around, around + 1, random.between(1, around)]);
    const data = manyBytes(random, sizeBytes);
    if (random.chance(0.3)) data.fill(0, random.below(sizeBytes), random.below(sizeBytes));
    entries[`large-${i}`] = random.chance(0.7)
      ? maker.file(data)
      : sparseFile(maker, random, 4 * sizeBytes, data);
    if (random.chance(0.3)) entries[`copy-${i}`] = maker.file(data);
  }
  const contents = new Map([...maker.contents, ...small.contents]);
  const large = maker.directory(entries);
  const root: Directory = small.tree.root;
  root.entries.set(...(['zz-large', large] as [never, Directory]));
  return { tree: { root }, contents };
}

function sparseFile(maker: TreeMaker, random: Random, sizeBytes: number, data: Buffer) {
  const runs: DataRun[] = [];
  let offsetBytes = random.below(sizeBytes - data.length);
  for (let left = data.length; left > 0; ) {
    const lengthBytes = Math.min(left, random.between(1, 400_000));
    runs.push({ offsetBytes, lengthBytes });
    left -= lengthBytes;
    offsetBytes += lengthBytes + random.below(sizeBytes - offsetBytes - lengthBytes - left + 1);
  }
  return maker.sparse(sizeBytes, runs, data);
}

async function bytesOnDisk(reader: DiskReader, disk: LazyDisk, file: DiskInode): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const { lengthBytes, diskOffsetBytes } of reader.extents(file)) {
    parts.push(
      diskOffsetBytes === undefined
        ? Buffer.alloc(lengthBytes)
        : await disk.readBuffer(diskOffsetBytes, lengthBytes),
    );
  }
  return Buffer.concat(parts);
}

function wholeFile({ sizeBytes, runs }: FileContent, data: Buffer): Buffer {
  if (runs === undefined) return data;
  const file = Buffer.alloc(sizeBytes);
  let taken = 0;
  for (const { offsetBytes, lengthBytes } of runs) {
    data.copy(file, offsetBytes, taken, taken + lengthBytes);
    taken += lengthBytes;
  }
  return file;
}

function filesByPath({ tree }: PlacedTree): Map<string, FileContent> {
  const files = new Map<string, FileContent>();
  const open: [string, Directory][] = [['', tree.root]];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    for (const [name, inode] of next[1].entries) {
      const path = `${next[0]}/${name}`;
      if (inode.kind === 'directory') open.push([path, inode]);
      if (inode.kind === 'file') files.set(path, inode.content);
    }
  }
  return files;
}

test('what is pushed is read back, every attribute and every byte', async () => {
  for (const random of seeded(10)) {
    const placed = treeWithLargeFiles(random);
    const { recipe, disk } = await push(placed, random, random);
    assert.equal(recipe.metadataSizeBytes % 4096, 0);
    const what = `seed ${random.seed}`;
    const files = filesByPath(placed);
    assertSameListing(await listDisk(diskSource(disk), files), listTree(placed), what);
    const reader = await DiskReader.open(diskSource(disk));
    let seen = 0;
    for await (const { path, inode } of walkDisk(reader)) {
      if (inode.kind !== 'file') continue;
      seen++;
      const content = files.get(path)!;
      const expected = wholeFile(content, placed.contents.get(content.ordinal)!);
      const found = await bytesOnDisk(reader, disk, inode);
      assert.ok(found.equals(expected), `${what}: ${JSON.stringify(path)}`);
    }
    assert.equal(seen, files.size, what);
  }
});

test('the same tree gives the same disk and chunks however its contents arrive', async () => {
  for (const seed of [100, 101, 102]) {
    const placed = treeWithLargeFiles(new Random(seed));
    const [first, second] = [
      await push(placed, new Random(seed), new Random(1)),
      await push(placed, new Random(seed), new Random(2)),
    ];
    assert.deepEqual(first.recipe, second.recipe, `seed ${seed}`);
    const bytes = await first.disk.readBuffer(0, first.disk.sizeBytes);
    const again = await second.disk.readBuffer(0, second.disk.sizeBytes);
    assert.ok(bytes.equals(again), `seed ${seed}`);
  }
});

test('fsck.erofs accepts a pushed disk with all of its data', async context => {
  const random = new Random(7);
  const { disk } = await push(treeWithLargeFiles(random), random, random);
  const path = join(temporaryFolder(context), 'disk');
  writeFileSync(path, await disk.readBuffer(0, disk.sizeBytes));
  fsck(path, { read: true });
});
