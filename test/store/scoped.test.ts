import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DirectoryStore } from '../../src/store/directory-store.ts';
import { scoped } from '../../src/store/scoped.ts';
import { isFault, keysOf, testObjectStore } from '../contract/object-store.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

testObjectStore('scoped memory store', () => scoped(new MemoryStore(), 'p'));
testObjectStore('scoped directory store', context =>
  scoped(new DirectoryStore(temporaryFolder(context)), 'p'),
);

test('a scope shows its own part of the store and does not lead out of it', async () => {
  const store = new MemoryStore();
  const inner = scoped(store, 'roots/r1');
  await store.put('roots/r10/x', Buffer.from('other'), { ifAbsent: true });
  await store.put('secret', Buffer.from('other'), { ifAbsent: true });
  await inner.put('k', Buffer.from('mine'), { ifAbsent: true });
  assert.deepEqual(await keysOf(inner, ''), ['k']);
  assert.deepEqual(await keysOf(store, 'roots/r1'), ['roots/r1/k']);
  assert.equal((await inner.stat('k'))?.key, 'k');
  for (const key of ['../secret', '..', '../../secret', '']) {
    await assert.rejects(inner.get(key, { sizeMaxBytes: 100 }), isFault('USAGE'));
  }
  assert.equal(inner.location, 'memory:/roots/r1');
});
