/** The benches' own S3 service is a store like any other: what is measured against it is honest. */

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { MemoryS3Process } from '../../bench/memory-s3.ts';
import { openStore } from '../../src/store/open-store.ts';
import { testObjectStore } from '../contract/object-store.ts';

Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'any', AWS_SECRET_ACCESS_KEY: 'any' });
const service = await MemoryS3Process.start();
after(() => service[Symbol.asyncDispose]());
let stores = 0;
const newStore = () =>
  openStore(`s3://bucket/${stores++}?endpoint=${service.endpoint}&region=us-east-1`);

testObjectStore("store in the benches' S3 service", newStore);

test('it tells what it was asked, once, and waits as long as it is told to', async () => {
  const store = await newStore();
  await store.put('k', Buffer.from('abc'), { ifAbsent: false });
  await service.take();
  await service.setDelay(100);
  await store.get('k', { sizeMaxBytes: 9 });
  await store.put('l', Buffer.from('abc'), { ifAbsent: false });
  await service.setDelay(0);
  const taken = await service.take();
  assert.deepEqual(
    taken.map(({ method, status, bodyBytes }) => [method, status, bodyBytes]),
    [
      ['GET', 200, 0],
      ['PUT', 200, 3],
    ],
  );
  for (const { beganMs, endedMs } of taken) assert.ok(endedMs - beganMs >= 99);
  assert.ok(taken[1]!.beganMs >= taken[0]!.endedMs);
  assert.deepEqual(await service.take(), []);
});
