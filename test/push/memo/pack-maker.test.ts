import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sha256 } from '../../../src/base/digest.ts';
import { ImgstoreError } from '../../../src/base/errors.ts';
import type { StoredChunk } from '../../../src/push/chunk-uploader.ts';
import { PackMaker, type PackPart } from '../../../src/push/memo/pack-maker.ts';
import { chunkKey, sealChunk } from '../../../src/seal/seal.ts';
import { chunkObjectKey } from '../../../src/store/format.ts';
import { MemoryStore } from '../../support/memory-store.ts';
import { manyBytes, salt } from '../../support/pushing.ts';
import { Random } from '../../support/random.ts';
import { WatchedStore } from '../../support/watched-store.ts';

async function stored(store: MemoryStore, plain: Buffer): Promise<StoredChunk> {
  const key = chunkKey(plain, salt.bytes);
  const { id, sealed } = sealChunk(plain, key);
  await store.put(chunkObjectKey(id), sealed, { ifAbsent: true });
  return { id, key, plainSizeBytes: plain.length, sealedSizeBytes: sealed.length };
}

const plain = manyBytes(new Random(1), 65_536);

function part(from: StoredChunk, offsetBytes: number, sizeBytes: number): PackPart {
  const digest = sha256(plain.subarray(offsetBytes, offsetBytes + sizeBytes));
  return { digest, sizeBytes, from, offsetBytes };
}

test('a pack is made of files in other packs; each of these is fetched once', async () => {
  const store = new MemoryStore();
  let gets = 0;
  const watched = new WatchedStore(store, (_call, work) => {
    gets++;
    return work();
  });
  const first = await stored(store, plain.subarray(0, 32_768));
  const second = await stored(store, plain);
  const maker = new PackMaker(watched, {});
  const parts = [part(second, 40_960, 4097), part(first, 4096, 1), part(second, 0, 8192)];
  const expected = Buffer.alloc(8192 + 4096 + 8192);
  plain.copy(expected, 0, 40_960, 40_960 + 4097);
  plain.copy(expected, 8192, 4096, 4097);
  plain.copy(expected, 12_288, 0, 8192);
  assert.ok((await maker.make(parts))?.equals(expected));
  assert.ok((await maker.make(parts))?.equals(expected));
  assert.equal(gets, 2);
});

test('a chunk that is gone, damaged, or holds other bytes makes no pack', async () => {
  const store = new MemoryStore();
  const chunk = await stored(store, plain);
  const parts = [part(chunk, 0, 5000)];
  const make = (changed: readonly PackPart[]) => new PackMaker(store, {}).make(changed);
  assert.ok(await make(parts));
  const [only] = parts as [PackPart];
  assert.equal(await make([{ ...only, offsetBytes: 4096 }]), undefined);
  assert.equal(await make([{ ...only, offsetBytes: 64 * 1024 }]), undefined);
  assert.equal(await make([{ ...only, from: { ...chunk, key: Buffer.alloc(32) } }]), undefined);
  assert.equal(await make([{ ...only, from: { ...chunk, sealedSizeBytes: 9 } }]), undefined);
  const object = store.objects.get(chunkObjectKey(chunk.id))!;
  object.bytes[7]! ^= 1;
  assert.equal(await make(parts), undefined);
  store.objects.clear();
  assert.equal(await make(parts), undefined);
  const fault = new ImgstoreError('UNAVAILABLE', 'Cannot reach the store');
  const broken = new WatchedStore(store, async () => {
    throw fault;
  });
  await assert.rejects(new PackMaker(broken, {}).make(parts), error => error === fault);
});
