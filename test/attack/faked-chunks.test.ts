/**
 * Duplicate faking, erasure and poisoning (Storer et al. 2008): the attacker can write to the store
 * and puts something else, or nothing, where an honest pusher's chunk belongs. At best it has the
 * chunk's key as well, as whoever has the same bytes in the same domain does.
 */

import assert from 'node:assert/strict';
import { createCipheriv } from 'node:crypto';
import { test } from 'node:test';
import { type ErrorCode, ImgstoreError } from '../../src/base/errors.ts';
import { storeSource } from '../../src/cache/store-source.ts';
import { LazyDisk } from '../../src/image/lazy-disk.ts';
import type { ChunkSegment } from '../../src/recipe/recipe.ts';
import { chunkObjectKey } from '../../src/store/format.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { diskOf, manyBytes, readerOf, salt, verdictOn } from '../support/pushing.ts';
import { Random } from '../support/random.ts';
import { otherKey } from '../support/recipes.ts';
import { chunkKeyIn, type Pushed, push, sealedChunksOf } from './attacker.ts';

/** Of bytes that zstd does not shrink: what is sealed under its key has the size that is stated. */
const file = manyBytes(new Random(5), 400_000);
const honest = [
  { path: 'app', type: 'directory' as const },
  { path: 'app/shared', content: file },
];

/** The first chunk of the file, and where it stands on the disk. */
function sharedChunk({ recipe }: Pushed): { chunk: ChunkSegment; offsetBytes: number } {
  const { id } = sealedChunksOf(file, salt)[0]!;
  let offsetBytes = 0;
  for (const segment of recipe.segments) {
    if (segment.kind === 'chunk' && segment.id === id) return { chunk: segment, offsetBytes };
    offsetBytes += segment.plainSizeBytes;
  }
  throw new Error('the image does not hold the file');
}

/** Other bytes under a valid tag of the chunk's own key, as long as the chunk. */
function poison({ key, plainSizeBytes }: ChunkSegment): { evil: Buffer; sealed: Buffer } {
  const evil = manyBytes(new Random(6), plainSizeBytes);
  const nonce = Buffer.alloc(12, 7);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  const encrypted = cipher.update(Buffer.concat([Buffer.of(0), evil]));
  cipher.final();
  return { evil, sealed: Buffer.concat([nonce, encrypted, cipher.getAuthTag()]) };
}

async function rejectsWith(work: Promise<unknown>, code: ErrorCode): Promise<void> {
  await assert.rejects(work, (error: unknown) => {
    assert.ok(error instanceof ImgstoreError, String(error));
    assert.equal(error.code, code);
    return true;
  });
}

async function readShared(image: Pushed): Promise<Buffer> {
  const { chunk, offsetBytes } = sharedChunk(image);
  return diskOf(image.recipe, image.roots).readBuffer(offsetBytes, chunk.plainSizeBytes);
}

test('poisoning a shared chunk: a valid tag under its key is not enough', async () => {
  const store = new MemoryStore();
  const image = await push(store, 'victim', honest);
  const { chunk, offsetBytes } = sharedChunk(image);
  const { evil, sealed } = poison(chunk);
  assert.equal(sealed.length, chunk.sealedSizeBytes);
  store.objects.get(chunkKeyIn(store, chunk.id))!.bytes = sealed;
  await rejectsWith(readShared(image), 'CORRUPT');
  // Were the id not compared, the attacker's bytes would be the image's.
  const naive = new LazyDisk(image.recipe, readerOf(storeSource(image.roots)));
  assert.deepEqual(await naive.readBuffer(offsetBytes, evil.length), evil);
});

for (const planted of ['noise', 'other bytes under its key', 'nothing'] as const) {
  test(`duplicate faking: ${planted} under the id of a chunk, before it is pushed`, async () => {
    const store = new MemoryStore();
    // The attacker pushed the file under its own name first, and then exchanged the object.
    const theirs = await push(store, 'bait', [{ path: 'x', content: file }], {
      ownerKey: otherKey,
    });
    const { chunk } = sharedChunk(theirs);
    const object = store.objects.get(chunkKeyIn(store, chunk.id))!;
    const whole = object.bytes;
    object.bytes = {
      noise: manyBytes(new Random(8), whole.length),
      'other bytes under its key': poison(chunk).sealed,
      nothing: Buffer.alloc(0),
    }[planted];

    // The store says that the chunk is there, and the push believes it: this is not held.
    const image = await push(store, 'victim', honest);
    assert.ok(image.report.newChunks < image.report.chunks);
    assert.notDeepEqual(object.bytes, whole);
    // What is held: no read gives other bytes, verify names the chunk, and --force mends it.
    await rejectsWith(readShared(image), 'CORRUPT');
    const { faults } = await verdictOn(image.recipe, image.roots);
    assert.deepEqual(
      faults.map(fault => [fault.chunk, fault.files]),
      [[chunk.id, ['/app/shared']]],
    );
    const mended = await push(store, 'victim', honest, { rewrite: true });
    assert.deepEqual((await verdictOn(mended.recipe, mended.roots)).faults, []);
    assert.deepEqual(await readShared(mended), file.subarray(0, chunk.plainSizeBytes));
    assert.deepEqual(store.objects.get(chunkKeyIn(store, chunk.id))!.bytes, whole);
  });
}

test('erasure: a chunk that was deleted is missed, never made up, and mended by a push', async () => {
  const store = new MemoryStore();
  const image = await push(store, 'victim', honest);
  const { chunk } = sharedChunk(image);
  store.objects.delete(chunkKeyIn(store, chunk.id));
  await rejectsWith(readShared(image), 'NOT_FOUND');
  // A recipe vouches for its chunks, so a push that finds the chunk in one does not look: not held.
  const next = await push(store, 'next', [...honest, { path: 'new', content: 'new' }]);
  await rejectsWith(readShared(next), 'NOT_FOUND');
  const faults = (await verdictOn(next.recipe, next.roots)).faults.map(fault => fault.chunk);
  assert.deepEqual(faults, [chunk.id]);
  await push(store, 'next', [...honest, { path: 'new', content: 'new' }], { rewrite: true });
  assert.deepEqual(await readShared(image), file.subarray(0, chunk.plainSizeBytes));
});

test('a chunk in the place of another is none, though both are genuine', async () => {
  const store = new MemoryStore();
  const image = await push(store, 'victim', honest);
  const { chunk } = sharedChunk(image);
  const root = 'roots/r0001/chunks/';
  const [other] = [...store.objects].filter(
    ([key]) => key.startsWith(root) && !key.endsWith(chunkObjectKey(chunk.id)),
  );
  store.objects.set(chunkKeyIn(store, chunk.id), other![1]);
  await rejectsWith(readShared(image), 'CORRUPT');
});
