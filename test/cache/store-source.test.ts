import assert from 'node:assert/strict';
import { test } from 'node:test';
import { storeSource } from '../../src/cache/store-source.ts';
import { chunkObjectKey } from '../../src/store/format.ts';
import { testChunkSource } from '../contract/chunk-source.ts';
import { isFault } from '../contract/object-store.ts';
import { rootsOf } from '../support/catalogs.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { Random } from '../support/random.ts';
import { type SealedChunk, sealedChunks } from '../support/sealed-chunks.ts';

async function create() {
  const store = new MemoryStore();
  const roots = rootsOf(store);
  const root = await roots.active();
  const seed = async ({ id, sealed }: SealedChunk) => {
    await root.chunks.put(chunkObjectKey(id), sealed, { ifAbsent: true });
  };
  return { store, seed, source: storeSource(roots), keepsPuts: false, forgetsSeeds: false };
}

testChunkSource('store source', create);

test('an object of another size is CORRUPT and named', async () => {
  const { source, seed } = await create();
  const [chunk] = sealedChunks(new Random(1), 1);
  await seed(chunk!);
  for (const sizeBytes of [4999, 5001]) {
    const named = isFault('CORRUPT', new RegExp(`chunk ${chunk!.id} from the store`));
    await assert.rejects(source.get(chunk!.id, { sizeBytes }), named);
  }
});

test('a chunk is absent from a store that is there, a store that is gone is UNAVAILABLE', async () => {
  const { source, store } = await create();
  const [chunk] = sealedChunks(new Random(1), 1);
  assert.equal(await source.get(chunk!.id, { sizeBytes: 5000 }), undefined);
  store.objects.clear();
  const gone = isFault('UNAVAILABLE', /gone$/);
  await assert.rejects(source.get(chunk!.id, { sizeBytes: 5000 }), gone);
});

test('what the store answers is not verified', async () => {
  const { source, seed } = await create();
  const [chunk] = sealedChunks(new Random(1), 1);
  await seed(chunk!);
  const hit = await source.get(chunk!.id, { sizeBytes: 5000 });
  assert.deepEqual([hit?.tier, hit?.verified], ['store', false]);
});
