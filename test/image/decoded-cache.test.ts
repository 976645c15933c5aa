import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DecodedCache } from '../../src/image/decoded-cache.ts';
import { fakeChunk } from '../support/recipes.ts';

const segment = fakeChunk('a', 1000);
const plain = Buffer.alloc(1000, 1);

test('a chunk is handed out to who has its id, its key and its size', () => {
  const cache = new DecodedCache(10_000);
  assert.equal(cache.get(segment), undefined);
  cache.set(segment, plain);
  assert.equal(cache.get({ ...segment }), plain);
  assert.equal(cache.get({ ...segment, key: Buffer.alloc(32) }), undefined);
  assert.equal(cache.get({ ...segment, plainSizeBytes: 999 }), undefined);
  assert.equal(cache.get({ ...fakeChunk('b', 1000), key: segment.key }), undefined);
  assert.equal(cache.get(segment), plain, 'the others took nothing away');
});

test('it holds no more bytes than it may, the last used ones', () => {
  const cache = new DecodedCache(3000);
  const segments = ['a', 'b', 'c', 'd'].map(name => fakeChunk(name, 1000));
  for (const one of segments.slice(0, 3)) cache.set(one, Buffer.alloc(1000));
  assert.equal(cache.sizeBytes, 3000);
  assert.ok(cache.get(segments[0]!));
  cache.set(segments[3]!, Buffer.alloc(1000));
  assert.equal(cache.sizeBytes, 3000);
  const kept = segments.map(one => cache.get(one) !== undefined);
  assert.deepEqual(kept, [true, false, true, true]);
  cache.set(fakeChunk('large', 3001), Buffer.alloc(3001));
  assert.ok(cache.sizeBytes <= 3000);
  assert.equal(cache.get(fakeChunk('large', 3001)), undefined);
});

test('of no bytes, it keeps nothing', () => {
  const cache = new DecodedCache(0);
  cache.set(segment, plain);
  assert.equal(cache.get(segment), undefined);
  assert.equal(cache.sizeBytes, 0);
});
