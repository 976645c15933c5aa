/**
 * Tenants of one worker, which share its memory and its disk cache: one that names the other's chunks,
 * which recipes show to everybody, and whoever can write to the cache's folder.
 */

import assert from 'node:assert/strict';
import { createCipheriv } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ImgstoreError } from '../../src/base/errors.ts';
import { diskCacheSizeMinBytes } from '../../src/base/limits.ts';
import { silentLog } from '../../src/base/log.ts';
import { DiskCache } from '../../src/cache/disk-cache.ts';
import { storeSource } from '../../src/cache/store-source.ts';
import { tiered } from '../../src/cache/tiered.ts';
import { verified } from '../../src/cache/verified.ts';
import { ChunkReader } from '../../src/image/chunk-reader.ts';
import { DecodedCache } from '../../src/image/decoded-cache.ts';
import { LazyDisk } from '../../src/image/lazy-disk.ts';
import type { ChunkSegment, Recipe } from '../../src/recipe/recipe.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { manyBytes, readerOf, sourceOf } from '../support/pushing.ts';
import { Random } from '../support/random.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { chunkKeyIn, type Pushed, push } from './attacker.ts';

const file = manyBytes(new Random(1), 150_000);
const victimFiles = [{ path: 'secret', content: file }];

function chunksOf({ segments }: Recipe): ChunkSegment[] {
  return segments.filter(segment => segment.kind === 'chunk');
}

function largest(recipe: Recipe): ChunkSegment {
  return chunksOf(recipe).reduce((a, b) => (a.plainSizeBytes > b.plainSizeBytes ? a : b));
}

async function isCorrupt(work: Promise<unknown>): Promise<void> {
  await assert.rejects(work, (error: unknown) => {
    return error instanceof ImgstoreError && error.code === 'CORRUPT';
  });
}

test('a tenant that names another’s chunks gets none of them out of memory or a flight', async () => {
  const { recipe, roots } = await push(new MemoryStore(), 'victim', victimFiles);
  const reader = readerOf(sourceOf(roots));
  const victim = new LazyDisk(recipe, reader);
  // All that a recipe shows without a key, and sizes as a guess may have them right.
  const guesses = [Buffer.alloc(32), new Random(9).bytes(32)];
  const attackers = guesses.map(key => {
    const segments = chunksOf(recipe).map(chunk => ({ ...chunk, key }));
    const diskSizeBytes = segments.reduce((sum, { plainSizeBytes }) => sum + plainSizeBytes, 0);
    return new LazyDisk({ ...recipe, diskSizeBytes, segments }, reader);
  });
  const right = await victim.readBuffer(0, victim.sizeBytes);
  assert.ok(right.includes(file));
  for (const attacker of attackers) {
    for (let offset = 0; offset < attacker.sizeBytes; offset += 50_000) {
      await isCorrupt(attacker.readBuffer(offset, 10));
    }
  }
  // Nor while the victim waits for the same chunk, and nothing is taken from the victim.
  const cold = readerOf(sourceOf(roots), 0);
  const chunk = largest(recipe);
  const counters = victim.counters;
  const [theirs, ours] = await Promise.allSettled([
    cold.read({ ...chunk, key: guesses[1]! }, counters),
    cold.read(chunk, counters),
  ]);
  assert.equal(theirs.status, 'rejected');
  assert.equal(ours.status, 'fulfilled');
  assert.deepEqual(await victim.readBuffer(0, victim.sizeBytes), right);
});

/** A worker: its disk cache over the store of an image, with nothing decoded in memory. */
function workerOf(folder: string, { roots }: Pushed) {
  const cache = new DiskCache({ folder, sizeMaxBytes: diskCacheSizeMinBytes, log: silentLog });
  const tiers = tiered([cache, verified(storeSource(roots))], { log: silentLog });
  const reader = new ChunkReader(tiers, new DecodedCache(0), { chunksInFlightMax: 4 });
  return { cache, tiers, reader };
}

/** Reads all of the disk until the cache has its chunks. */
async function fill(folder: string, image: Pushed): Promise<void> {
  const { cache, tiers, reader } = workerOf(folder, image);
  while (cache.stats().scanning) await sleep(5);
  try {
    await new LazyDisk(image.recipe, reader).readBuffer(0, image.recipe.diskSizeBytes);
  } finally {
    await tiers.close();
  }
}

function cachedFile(folder: string, { id }: ChunkSegment): string {
  return join(folder, 'v1', id.slice(0, 2), id);
}

test('poisoning the disk cache: without the chunk’s key it costs a fetch and nothing more', async t => {
  const folder = temporaryFolder(t);
  const image = await push(new MemoryStore(), 'victim', victimFiles);
  await fill(folder, image);
  const chunk = largest(image.recipe);
  const path = cachedFile(folder, chunk);
  const whole = readFileSync(path);
  const flipped = Buffer.from(whole);
  flipped[100]! ^= 1;
  for (const planted of [flipped, manyBytes(new Random(3), whole.length), Buffer.alloc(0)]) {
    writeFileSync(path, planted);
    const { tiers, reader } = workerOf(folder, image);
    const disk = new LazyDisk(image.recipe, reader);
    assert.ok((await disk.readBuffer(0, disk.sizeBytes)).includes(file));
    await tiers.close();
    writeFileSync(path, whole);
  }
});

test('poisoning the disk cache: who can write to it and has the key gives other bytes', async t => {
  const folder = temporaryFolder(t);
  const image = await push(new MemoryStore(), 'victim', victimFiles);
  await fill(folder, image);
  const { key, ...chunk } = largest(image.recipe);
  const evil = Buffer.alloc(chunk.plainSizeBytes, 'EVIL');
  const cipher = createCipheriv('aes-256-gcm', key, Buffer.alloc(12));
  const encrypted = cipher.update(Buffer.concat([Buffer.of(0), evil]));
  cipher.final();
  const sealed = Buffer.concat([Buffer.alloc(12), encrypted, cipher.getAuthTag()]);
  writeFileSync(cachedFile(folder, { key, ...chunk }), sealed);
  const { tiers, reader } = workerOf(folder, image);
  const disk = new LazyDisk(image.recipe, reader);
  // Not held: the folder is 0700, and root on the worker can do worse.
  assert.ok((await disk.readBuffer(0, disk.sizeBytes)).includes('EVILEVIL'));
  await tiers.close();
});

test('poisoning the disk cache from the store: nothing unverified is kept', async t => {
  const folder = temporaryFolder(t);
  const store = new MemoryStore();
  const image = await push(store, 'victim', victimFiles);
  const chunk = largest(image.recipe);
  const object = store.objects.get(chunkKeyIn(store, chunk.id))!;
  const whole = object.bytes;
  object.bytes = manyBytes(new Random(4), whole.length);
  await isCorrupt(fill(folder, image));
  assert.equal(existsSync(cachedFile(folder, chunk)), false);
  object.bytes = whole;
  await fill(folder, image);
  assert.deepEqual(readFileSync(cachedFile(folder, chunk)), whole);
});
