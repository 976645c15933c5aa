import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import type { ChunkId } from '../../src/base/digest.ts';
import { ImgstoreError } from '../../src/base/errors.ts';
import { chunkSizeMaxBytes } from '../../src/base/limits.ts';
import type { ChunkSource } from '../../src/cache/chunk-source.ts';
import { DiskReader } from '../../src/erofs/reader.ts';
import { walkDisk } from '../../src/erofs/walk.ts';
import { diskSource } from '../../src/image/disk-source.ts';
import { filesAt } from '../../src/image/locate.ts';
import { verifyImage } from '../../src/image/verify.ts';
import { WholeChunks } from '../../src/image/whole-chunks.ts';
import { pushImage } from '../../src/push/push.ts';
import { type ChunkSegment, type Recipe, sealedSizes } from '../../src/recipe/recipe.ts';
import { chunkObjectKey } from '../../src/store/format.ts';
import type { Roots } from '../../src/store/roots.ts';
import { MemoryStore } from '../support/memory-store.ts';
import {
  diskOf,
  manyBytes,
  readerOf,
  sourceOf,
  TestImage,
  targetOn,
  verdictOn,
} from '../support/pushing.ts';
import { Random } from '../support/random.ts';
import { recipeOf } from './support.ts';

const random = new Random(1);
const image = new TestImage([
  [
    { path: 'dir', type: 'directory' },
    ...Array.from({ length: 50 }, (_, i) => {
      return { path: `dir/small-${i}`, content: manyBytes(random, 600 + i) };
    }),
    { path: 'large', content: manyBytes(random, 1_500_000) },
    { path: 'sparse', content: Buffer.concat([Buffer.alloc(500_000), manyBytes(random, 90_000)]) },
    { path: 'zeros', content: Buffer.alloc(200_000) },
  ],
]);

let store: MemoryStore;
let roots: Roots;
let recipe: Recipe;

beforeEach(async () => {
  store = new MemoryStore();
  const target = await targetOn(store, 'app');
  await pushImage(image, target);
  roots = target.roots;
  recipe = (await target.catalog.open(target.name)).recipe;
});

function objectKeyOf({ id }: ChunkSegment): string {
  return `roots/r0001/chunks/${chunkObjectKey(id)}`;
}

function bytesOf(chunk: ChunkSegment): Buffer {
  return store.objects.get(objectKeyOf(chunk))!.bytes;
}

function replace(chunk: ChunkSegment, bytes: Buffer): void {
  store.objects.set(objectKeyOf(chunk), { bytes, modified: new Date() });
}

/** The paths of the files with bytes in a chunk, found the slow way; '' if it holds metadata. */
async function filesIn(chunk: ChunkSegment): Promise<string[]> {
  const spans: [number, number][] = [];
  let at = 0;
  for (const segment of recipe.segments) {
    if (segment.kind === 'chunk' && segment.id === chunk.id)
      spans.push([at, at + segment.plainSizeBytes]);
    at += segment.plainSizeBytes;
  }
  const files = new Set<string>();
  const reader = await DiskReader.open(diskSource(diskOf(recipe, roots)));
  for await (const { path, inode } of walkDisk(reader)) {
    if (inode.kind !== 'file') continue;
    for await (const { diskOffsetBytes: from, lengthBytes } of reader.extents(inode)) {
      if (from === undefined) continue;
      if (spans.some(([start, end]) => from < end && start < from + lengthBytes)) files.add(path);
    }
  }
  return [...files];
}

/** Chunks of file data. */
function dataChunks(): ChunkSegment[] {
  let at = 0;
  return recipe.segments.filter((segment): segment is ChunkSegment => {
    const start = at;
    at += segment.plainSizeBytes;
    return segment.kind === 'chunk' && start >= recipe.metadataSizeBytes;
  });
}

test('a whole image has no faults', async () => {
  const progress: [number, number][] = [];
  const verdict = await verifyImage(recipe, sourceOf(roots), {
    onProgress: (...bytes) => progress.push(bytes),
  });
  const sizes = sealedSizes(recipe);
  const storedBytes = [...sizes.values()].reduce((sum, size) => sum + size, 0);
  const chunks = sizes.size;
  const checked = { checkedChunks: chunks, checkedBytes: storedBytes };
  assert.deepEqual(verdict, { chunks, storedBytes, ...checked, faults: [] });
  assert.equal(progress.length, sizes.size);
  assert.ok(progress.every(([doneBytes]) => doneBytes <= storedBytes));
  assert.deepEqual(progress.at(-1), [storedBytes, storedBytes]);
});

test('chunks are fetched side by side, a bounded number of bytes at a time', async () => {
  const source = sourceOf(roots);
  const sizes = sealedSizes(recipe);
  let running = 0;
  let runningMax = 0;
  const watched: ChunkSource = {
    ...source,
    async get(id, options) {
      running++;
      runningMax = Math.max(runningMax, running);
      await setTimeout(1);
      running--;
      return source.get(id, options);
    },
  };
  await verifyImage(recipe, watched, { onProgress: () => {} });
  assert.equal(runningMax, Math.min(32, sizes.size));
  // As many of the largest chunks would be 64 MiB.
  const large = recipe.segments.find(segment => segment.kind === 'chunk')!;
  const segments = Array.from({ length: 40 }, (_, i): ChunkSegment => {
    const id = String(i).padStart(64, 'a') as ChunkId;
    const plainSizeBytes = chunkSizeMaxBytes;
    return { ...(large as ChunkSegment), id, plainSizeBytes, sealedSizeBytes: plainSizeBytes };
  });
  runningMax = 0;
  const { faults } = await verifyImage(recipeOf(segments), watched, { onProgress: () => {} });
  assert.equal(faults.length, segments.length);
  assert.equal(runningMax, 16);
});

test('what one image found whole is not fetched for another; what it found broken is', async () => {
  const whole = new WholeChunks();
  const onProgress = () => {};
  const [lost] = dataChunks();
  store.objects.delete(objectKeyOf(lost!));
  const first = await verifyImage(recipe, sourceOf(roots), { onProgress, whole });
  assert.equal(first.checkedChunks, first.chunks);
  const progress: number[] = [];
  const second = await verifyImage(recipe, sourceOf(roots), {
    onProgress: bytes => progress.push(bytes),
    whole,
  });
  assert.deepEqual(second.faults, first.faults);
  assert.equal(second.checkedChunks, 1);
  assert.equal(second.checkedBytes, lost!.sealedSizeBytes);
  assert.equal(progress.at(-1), second.storedBytes);
  // Another key for the same chunk is another question.
  const segments = recipe.segments.map(segment =>
    segment.kind === 'chunk' && segment.id === dataChunks()[1]!.id
      ? { ...segment, key: Buffer.alloc(32) }
      : segment,
  );
  const third = await verifyImage({ ...recipe, segments }, sourceOf(roots), { onProgress, whole });
  assert.deepEqual(
    third.faults.map(({ chunk }) => chunk),
    [lost!.id, dataChunks()[1]!.id],
  );
});

test('every kind of damage to a chunk is named with the files that it holds', async () => {
  const kinds: [text: RegExp, damage: (chunk: ChunkSegment) => void][] = [
    [/not in the store/, chunk => store.objects.delete(objectKeyOf(chunk))],
    [/SHA-256 is another/, chunk => (bytesOf(chunk)[60]! ^= 1)],
    [/bytes, not the|more than the/, chunk => replace(chunk, bytesOf(chunk).subarray(1))],
    [/more than the/, chunk => replace(chunk, Buffer.concat([bytesOf(chunk), Buffer.alloc(1)]))],
    [
      /not the|more than|SHA-256/,
      chunk => replace(chunk, Buffer.from(bytesOf(dataChunks().at(-2)!))),
    ],
  ];
  const chunks = dataChunks();
  for (const [i, [text, damage]] of kinds.entries()) {
    const chunk = chunks[i % (chunks.length - 2)]!;
    const expectedFiles = await filesIn(chunk);
    assert.ok(expectedFiles.length > 0);
    const before = bytesOf(chunk);
    const copy = Buffer.from(before);
    damage(chunk);
    const { faults } = await verdictOn(recipe, roots);
    assert.equal(faults.length, 1, JSON.stringify(faults));
    assert.equal(faults[0]!.chunk, chunk.id);
    assert.match(faults[0]!.problem, text);
    assert.deepEqual(faults[0]!.files, expectedFiles);
    replace(chunk, copy);
  }
});

test('all faults are listed, not only the first', async () => {
  const chunks = dataChunks();
  const expected = new Map<string, string[]>();
  for (const chunk of chunks) expected.set(chunk.id, await filesIn(chunk));
  for (const chunk of chunks) store.objects.delete(objectKeyOf(chunk));
  const { faults } = await verdictOn(recipe, roots);
  const found = new Map(faults.map(({ chunk, files }) => [chunk!, files]));
  assert.deepEqual(found, expected);
  const named = new Set(faults.flatMap(({ files }) => files));
  assert.ok(named.has('/large') && named.has('/sparse') && named.has('/dir/small-0'));
  assert.ok(!named.has('/zeros'), 'a hole is in no chunk');
});

test('a chunk of metadata: no files can be told', async () => {
  const first = recipe.segments[0] as ChunkSegment;
  store.objects.delete(objectKeyOf(first));
  const { faults } = await verdictOn(recipe, roots);
  const problem = 'it is not in the store';
  assert.deepEqual(faults, [{ chunk: first.id, problem, files: [] }]);
});

test('a disk of whole chunks that does not hold together is one more fault', async () => {
  // Two chunks of metadata would be swapped; here the superblock's chunk is not the first.
  const segments = [...recipe.segments].reverse();
  const metadataSizeBytes = recipe.diskSizeBytes;
  const { faults } = await verdictOn({ ...recipe, segments, metadataSizeBytes }, roots);
  assert.equal(faults.length, 1);
  assert.equal(faults[0]!.chunk, undefined);
  assert.match(faults[0]!.problem, /^Cannot /);
  assert.deepEqual(faults[0]!.files, []);
  // And with a chunk lost as well, both are listed.
  const lost = dataChunks()[0]!;
  store.objects.delete(objectKeyOf(lost));
  const metadataless = { ...recipe, segments, metadataSizeBytes: 0 };
  const both = await verdictOn(metadataless, roots);
  assert.deepEqual(
    both.faults.map(({ chunk }) => chunk),
    [lost.id, undefined],
  );
});

test('a recipe with a wrong key or size for a chunk', async () => {
  const [chunk] = dataChunks();
  const swap = (changed: Partial<ChunkSegment>) => {
    const segments = recipe.segments.map(segment =>
      segment.kind === 'chunk' && segment.id === chunk!.id ? { ...segment, ...changed } : segment,
    );
    return { ...recipe, segments };
  };
  const keyed = await verdictOn(swap({ key: Buffer.alloc(32) }), roots);
  assert.deepEqual(
    keyed.faults.map(fault => fault.chunk),
    [chunk!.id],
  );
  assert.match(keyed.faults[0]!.problem, /tag is wrong/);
  const sized = await verdictOn(swap({ sealedSizeBytes: chunk!.sealedSizeBytes + 1 }), roots);
  assert.deepEqual(
    sized.faults.map(fault => fault.chunk),
    [chunk!.id],
  );
});

test('a raw disk has chunks and no files', async () => {
  const segments = recipe.segments.filter(segment => segment.kind === 'chunk');
  const raw = recipeOf(segments);
  assert.deepEqual((await verdictOn(raw, roots)).faults, []);
  store.objects.delete(objectKeyOf(segments[2] as ChunkSegment));
  const { faults } = await verdictOn(raw, roots);
  assert.deepEqual(
    faults.map(({ files }) => files),
    [[]],
  );
});

test('a store that is gone, an abort and a bug are no verdict', async () => {
  const source = sourceOf(roots);
  const gone = new ImgstoreError('UNAVAILABLE', 'Cannot read: gone');
  const onProgress = () => {};
  const failing = (error: unknown): ChunkSource => {
    let gets = 0;
    return {
      ...source,
      get: async (...args) => {
        if (gets++ === 2) throw error;
        return source.get(...args);
      },
    };
  };
  await assert.rejects(verifyImage(recipe, failing(gone), { onProgress }), error => error === gone);
  await assert.rejects(
    verifyImage(recipe, failing(new TypeError('bug')), { onProgress }),
    TypeError,
  );
  const controller = new AbortController();
  const reason = new ImgstoreError('IO', 'Stopped by SIGINT');
  const abort = { onProgress: () => controller.abort(reason), signal: controller.signal };
  await assert.rejects(verifyImage(recipe, source, abort), error => error === reason);
});

test('files of several ranges, in one walk', async () => {
  const chunks = dataChunks();
  const ranges: { offsetBytes: number; lengthBytes: number }[] = [];
  let offsetBytes = 0;
  for (const { plainSizeBytes } of recipe.segments) {
    if (offsetBytes >= recipe.metadataSizeBytes)
      ranges.push({ offsetBytes, lengthBytes: plainSizeBytes });
    offsetBytes += plainSizeBytes;
  }
  ranges.reverse();
  const found = await filesAt(recipe, readerOf(sourceOf(roots)), ranges);
  found.reverse();
  for (const [i, chunk] of chunks.entries()) assert.deepEqual(found[i], await filesIn(chunk));
  assert.deepEqual(await filesAt(recipe, readerOf(sourceOf(roots)), []), []);
  // One byte at the border of a file.
  const [large] = ranges.slice(-1);
  const single = [{ offsetBytes: large!.offsetBytes, lengthBytes: 1 }];
  assert.equal((await filesAt(recipe, readerOf(sourceOf(roots)), single))[0]!.length, 1);
});
