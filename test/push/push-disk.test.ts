import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrorCode, ImgstoreError } from '../../src/base/errors.ts';
import { blockSizeBytes, chunkSizeMaxBytes, GiB, KiB, TiB } from '../../src/base/limits.ts';
import type { PushProgress } from '../../src/push/push.ts';
import { pushDisk } from '../../src/push/push-disk.ts';
import type { Recipe } from '../../src/recipe/recipe.ts';
import { TestCatalog } from '../support/catalogs.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { diskOf, manyBytes, targetOn, verdictOn } from '../support/pushing.ts';
import { Random, seeded } from '../support/random.ts';
import { otherKey } from '../support/recipes.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { WatchedStore } from '../support/watched-store.ts';

/** Pushes the bytes as a disk; fails unless they come back, padded to a block. */
async function pushBytes(context: TestContext, bytes: Buffer, store = new MemoryStore()) {
  const path = join(temporaryFolder(context), 'disk');
  writeFileSync(path, bytes);
  const target = await targetOn(store, 'disk');
  const report = await pushDisk(path, target);
  const { recipe } = await target.catalog.open(target.name);
  assert.deepEqual((await verdictOn(recipe, target.roots)).faults, []);
  const disk = diskOf(recipe, target.roots);
  const paddedBytes = Math.ceil(bytes.length / blockSizeBytes) * blockSizeBytes;
  assert.equal(disk.sizeBytes, paddedBytes);
  assert.equal(report.diskBytes, paddedBytes);
  const found = await disk.readBuffer(0, disk.sizeBytes);
  assert.ok(found.equals(Buffer.concat([bytes], paddedBytes)), 'the disk is what was pushed');
  return { report, recipe, target };
}

function shapeOf({ segments }: Recipe): string {
  return segments.map(({ kind }) => kind[0]).join('');
}

test('sizes that are whole blocks and sizes that are not', async context => {
  const random = new Random(1);
  for (const size of [1, 511, 4095, 4096, 4097, 64 * KiB, chunkSizeMaxBytes, 3_000_001]) {
    const { recipe, report } = await pushBytes(context, manyBytes(random, size));
    assert.equal(report.outcome, 'created');
    assert.equal(recipe.metadataSizeBytes, 0);
    assert.equal(recipe.details.kind, 'disk');
    assert.equal(recipe.details.manifestDigest, undefined);
  }
});

test('zeros at the start, in the middle and at the end are not stored', async context => {
  const data = manyBytes(new Random(2), 64 * KiB);
  const zeros = Buffer.alloc(256 * KiB);
  for (const [parts, shape] of [
    [[zeros, data, zeros, data, zeros], 'zczcz'],
    [[data, zeros, data], 'czc'],
    [[zeros], 'z'],
    [[zeros.subarray(0, 1)], 'z'],
    [[zeros, Buffer.from([1])], 'zc'],
  ] as const) {
    const { recipe } = await pushBytes(context, Buffer.concat(parts));
    assert.equal(shapeOf(recipe), shape);
  }
});

test('random disks come back', async context => {
  for (const random of seeded(10)) {
    const parts = Array.from({ length: random.between(1, 20) }, () => {
      const size = random.between(1, random.pick([100, 70_000, 900_000]));
      return random.chance(0.4) ? Buffer.alloc(size) : manyBytes(random, size);
    });
    await pushBytes(context, Buffer.concat(parts));
  }
});

test('a disk that grew shares what it had, however large it became', async context => {
  const store = new MemoryStore();
  const bytes = manyBytes(new Random(3), 2_000_000);
  await pushBytes(context, bytes, store);
  // Beyond the size up to which the holes of a file in an image have units as small.
  const grownBytes = GiB + 64 * KiB;
  const path = join(temporaryFolder(context), 'grown');
  writeFileSync(path, bytes.subarray(0, bytes.length & ~4095));
  truncateSync(path, grownBytes);
  const report = await pushDisk(path, await targetOn(store, 'grown'));
  assert.equal(report.diskBytes, grownBytes);
  assert.ok(report.newChunks <= 1, 'but for its last chunk');
});

test('pushed again, it is the same recipe', async context => {
  const store = new MemoryStore();
  const bytes = manyBytes(new Random(4), 700_000);
  const first = await pushBytes(context, bytes, store);
  const again = await pushBytes(context, bytes, store);
  const unchanged = { outcome: 'unchanged', newChunks: 0, newStoredBytes: 0 };
  assert.deepEqual(again.report, { ...first.report, ...unchanged });
});

async function rejectsWith(path: string, code: ErrorCode, text: RegExp, changed = {}) {
  const store = new MemoryStore();
  const slow = new WatchedStore(store, async ({ kind }, work) => {
    if (kind === 'put') await sleep(10);
    return work();
  });
  const target = await targetOn(slow, 'disk', changed);
  await assert.rejects(pushDisk(path, target), (error: unknown) => {
    assert.ok(error instanceof ImgstoreError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, /^Cannot push disk /);
    assert.match(`${error.message}. ${error.hint}`, text);
    return true;
  });
  const objects = store.objects.size;
  await sleep(30);
  assert.equal(store.objects.size, objects, 'nothing is put afterwards');
  assert.equal(await target.catalog.record(target.name), undefined);
}

test('what is no disk image is refused', async context => {
  const folder = temporaryFolder(context);
  await rejectsWith(join(folder, 'absent'), 'IO', /no such file/);
  mkdirSync(join(folder, 'folder'));
  await rejectsWith(join(folder, 'folder'), 'UNSUPPORTED', /not a regular file/);
  execFileSync('mkfifo', [join(folder, 'fifo')]);
  await rejectsWith(join(folder, 'fifo'), 'UNSUPPORTED', /not a regular file/);
  await rejectsWith('/dev/zero', 'UNSUPPORTED', /not a regular file/);
  writeFileSync(join(folder, 'empty'), '');
  await rejectsWith(join(folder, 'empty'), 'UNSUPPORTED', /it is empty/);
});

test('a disk over the limit is refused', async context => {
  // ext4 ends at 16 TiB less a block; tmpfs does not.
  const path = join('/dev/shm', `imgstore-test-${process.pid}`);
  context.after(() => execFileSync('rm', ['-f', path]));
  writeFileSync(path, '');
  truncateSync(path, 16 * TiB + 1);
  await rejectsWith(path, 'LIMIT', /over 16 TiB/);
});

test('a file that shrinks while it is read is refused, one that grows is not', async context => {
  const path = join(temporaryFolder(context), 'disk');
  const bytes = manyBytes(new Random(5), 4_000_000);
  writeFileSync(path, bytes);
  const shrink = (progress: PushProgress) => {
    if (progress.phase === 'disk') truncateSync(path, 1_500_000);
  };
  await rejectsWith(path, 'IO', /cut short while it was read.*Leave it alone/, {
    onProgress: shrink,
  });
  writeFileSync(path, bytes);
  const onProgress = () => writeFileSync(path, 'more', { flag: 'a' });
  const target = await targetOn(new MemoryStore(), 'disk', { onProgress });
  const { diskBytes } = await pushDisk(path, target);
  assert.equal(diskBytes, Math.ceil(bytes.length / blockSizeBytes) * blockSizeBytes);
});

test('progress tells how far the disk is read; an abort ends it', async context => {
  const path = join(temporaryFolder(context), 'disk');
  writeFileSync(path, manyBytes(new Random(6), 3_000_000));
  const seen: PushProgress[] = [];
  const controller = new AbortController();
  const target = await targetOn(new MemoryStore(), 'disk', {
    onProgress: progress => seen.push(progress),
    signal: controller.signal,
  });
  await pushDisk(path, target);
  const read = seen.flatMap(event => (event.phase === 'disk' ? [event.readBytes] : []));
  assert.deepEqual(read, [1_048_576, 2_097_152, 3_000_000]);
  assert.equal(seen.at(-1)!.phase, 'commit');
  const onProgress = () => controller.abort(new Error('enough'));
  const aborting = { ...target, ...(await targetOn(new MemoryStore(), 'disk')), onProgress };
  await assert.rejects(pushDisk(path, { ...aborting, signal: controller.signal }), /enough/);
  assert.equal(await aborting.catalog.record(aborting.name), undefined);
});

test('the name of another owner is refused first', async context => {
  const { target } = await pushBytes(context, Buffer.alloc(5000, 1));
  const catalog = new TestCatalog(target.roots, otherKey);
  await assert.rejects(pushDisk('/nowhere', { ...target, catalog }), { code: 'KEY' });
});
