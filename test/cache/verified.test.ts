import assert from 'node:assert/strict';
import { test } from 'node:test';
import { verified } from '../../src/cache/verified.ts';
import { testWrapper } from '../contract/chunk-source.ts';
import { isFault } from '../contract/object-store.ts';
import { FaultySource } from '../support/faulty-source.ts';
import { MemorySource } from '../support/memory-source.ts';
import { Random, seeded } from '../support/random.ts';
import { sealedChunks } from '../support/sealed-chunks.ts';

testWrapper('verified', verified);

test('what has its id passes and is marked, what has not is dropped and named', async () => {
  for (const random of seeded(20)) {
    const chunks = sealedChunks(random, 2, random.between(1, 3000));
    const inner = new MemorySource('fleet', { verified: false, chunks });
    const [good, bad] = chunks;
    const forged = Buffer.from(bad!.sealed);
    const at = random.below(forged.length);
    forged[at] = forged[at]! ^ (1 << random.below(8));
    inner.chunks.set(bad!.id, forged);
    const source = verified(inner);
    const sizeBytes = forged.length;
    assert.equal((await source.get(good!.id, { sizeBytes }))?.verified, true);
    const named = isFault('CORRUPT', new RegExp(`chunk ${bad!.id} from tier fleet`));
    await assert.rejects(source.get(bad!.id, { sizeBytes }), named, `seed ${random.seed}`);
    assert.equal(inner.chunks.has(bad!.id), false);
    assert.equal(await source.get(bad!.id, { sizeBytes }), undefined);
  }
});

test('swapped chunks of equal size are found out', async () => {
  const [a, b] = sealedChunks(new Random(1), 2);
  const inner = new MemorySource('fleet', { verified: false });
  inner.chunks.set(a!.id, b!.sealed);
  await assert.rejects(verified(inner).get(a!.id, { sizeBytes: 5000 }), isFault('CORRUPT'));
});

test('a chunk that was damaged on its way is right when it comes again', async () => {
  const [chunk] = sealedChunks(new Random(2), 1);
  const shelf = new MemorySource('store', { verified: false, chunks: [chunk!] });
  shelf.drop = async () => {}; // as the store: what was damaged on its way is still there
  let gets = 0;
  const source = verified(new FaultySource(shelf, () => (++gets === 1 ? 'flip' : 'work')));
  const hit = await source.get(chunk!.id, { sizeBytes: chunk!.sealed.length });
  assert.ok(hit?.sealed.equals(chunk!.sealed));
  assert.equal(gets, 2);
});
