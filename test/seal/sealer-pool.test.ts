import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chunkKey, sealChunk } from '../../src/seal/seal.ts';
import { SealerPool } from '../../src/seal/sealer-pool.ts';
import { Random } from '../support/random.ts';

const salt = Buffer.alloc(32, 7);

test('a pool seals as the calling thread would, many at once', async () => {
  await using pool = new SealerPool();
  const random = new Random(1);
  const sealing = Array.from({ length: 40 }, (_, index) => {
    const plain = random.bytes(1 + index * 700);
    const key = chunkKey(plain, salt);
    return { expected: sealChunk(plain, key), sealed: pool.seal(Buffer.from(plain), key) };
  });
  for (const { expected, sealed } of sealing) assert.deepEqual(await sealed, expected);
});

test('what waits when a pool is disposed of is rejected, and nothing is sealed afterwards', async () => {
  const pool = new SealerPool();
  const plain = Buffer.alloc(1000, 1);
  const waiting = pool.seal(plain, chunkKey(plain, salt));
  const rejected = assert.rejects(waiting, /has ended/);
  await pool[Symbol.asyncDispose]();
  await rejected;
  await assert.rejects(pool.seal(Buffer.alloc(1), Buffer.alloc(32)), /has ended/);
});

test('a bug in a thread rejects what waits for it', async () => {
  await using pool = new SealerPool();
  await assert.rejects(pool.seal(Buffer.alloc(1), Buffer.alloc(31)), /32 bytes/);
});
