import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { storeDocumentSizeMaxBytes } from '../../src/base/limits.ts';
import { DirectoryStore } from '../../src/store/directory-store.ts';
import { openStore } from '../../src/store/open-store.ts';
import { openRoot } from '../../src/store/root.ts';
import { isFault, keysOf } from '../contract/object-store.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const fixtures = join(import.meta.dirname, '..', '..', 'fixtures', 'stores');

test('a first push makes the documents of format 1, byte for byte', async context => {
  const folder = join(temporaryFolder(context), 'store');
  const store = await openStore(folder);
  await assert.rejects(
    openRoot(store, { create: false }),
    isFault('NOT_FOUND', /no store is there$/),
  );
  const root = await openRoot(store, { create: true });
  assert.equal(root.id, 'r0001');
  for (const name of ['imgstore.json', 'roots.json']) {
    const made = readFileSync(join(folder, name));
    assert.deepEqual(made, readFileSync(join(fixtures, 'format-1', name)), name);
  }
  await root.chunks.put('ab/cd', Buffer.from('1'), { ifAbsent: true });
  await root.recipes.put('ef', Buffer.from('2'), { ifAbsent: true });
  await root.names.put('gh', Buffer.from('3'), { ifAbsent: true });
  assert.deepEqual(await keysOf(store, 'roots'), [
    'roots/r0001/chunks/ab/cd',
    'roots/r0001/names/gh',
    'roots/r0001/recipes/ef',
  ]);
  assert.deepEqual(await keysOf((await openRoot(store, { create: false })).names, ''), ['gh']);
});

test('the store of the fixtures opens, without being written to', async () => {
  const folder = join(fixtures, 'format-1');
  const root = await openRoot(await openStore(folder), { create: true });
  assert.equal(root.id, 'r0001');
  assert.ok(await root.isPresent());
  assert.deepEqual(readdirSync(folder), ['imgstore.json', 'roots.json']);
});

test('a store of another format is refused and not touched', async () => {
  const folder = join(fixtures, 'format-999');
  const store = await openStore(folder);
  const refusal = /has format 999, this imgstore reads and writes format 1$/;
  for (const create of [true, false]) {
    await assert.rejects(openRoot(store, { create }), isFault('UNSUPPORTED', refusal));
  }
  assert.deepEqual(readdirSync(folder), ['imgstore.json']);
});

test('no store is made among other things, but in an empty folder it is', async context => {
  const folder = temporaryFolder(context);
  mkdirSync(join(folder, 'lost+found'));
  writeFileSync(join(folder, 'lost+found', 'a file'), 'x');
  const store = new DirectoryStore(folder);
  await assert.rejects(
    openRoot(store, { create: true }),
    isFault('USAGE', /other things are there/),
  );
  await assert.rejects(openRoot(store, { create: false }), isFault('NOT_FOUND'));
  assert.deepEqual(readdirSync(folder), ['lost+found']);
  rmSync(join(folder, 'lost+found', 'a file'));
  assert.equal((await openRoot(store, { create: true })).id, 'r0001');
});

test('first pushes at the same time make one store', async context => {
  const folder = temporaryFolder(context);
  for (let round = 0; round < 20; round++) {
    const each = () => openRoot(new DirectoryStore(join(folder, `${round}`)), { create: true });
    const roots = await Promise.all([each(), each(), each(), each()]);
    assert.deepEqual(
      roots.map(({ id }) => id),
      ['r0001', 'r0001', 'r0001', 'r0001'],
    );
  }
});

test('a store that another first push makes while this one looks around is used', async () => {
  class RacedStore extends MemoryStore {
    override async *list(prefix: string) {
      await this.put('imgstore.json', Buffer.from('{"format":1}'), { ifAbsent: true });
      yield* super.list(prefix);
    }
  }
  assert.equal((await openRoot(new RacedStore(), { create: true })).id, 'r0001');
});

test('a first push that ended between the documents is completed by the next', async () => {
  const store = new MemoryStore();
  await store.put('imgstore.json', Buffer.from('{"format":1}'), { ifAbsent: true });
  await assert.rejects(openRoot(store, { create: false }), isFault('NOT_FOUND'));
  assert.equal((await openRoot(store, { create: true })).id, 'r0001');
});

test('the active root is opened, whatever the others are', async context => {
  const folder = join(temporaryFolder(context), 'store');
  cpSync(join(fixtures, 'format-1'), folder, { recursive: true });
  const roots = [
    { id: 'r0001', state: 'expired' },
    { id: 'r0003', state: 'active' },
    { id: 'r0002', state: 'retired' },
  ];
  writeFileSync(join(folder, 'roots.json'), JSON.stringify({ roots }));
  const root = await openRoot(new DirectoryStore(folder), { create: false });
  assert.equal(root.id, 'r0003');
  assert.equal(root.names.location, `${folder}/roots/r0003/names`);
});

test('a document over the limit is refused before it is read', async () => {
  const store = new MemoryStore();
  const large = Buffer.alloc(storeDocumentSizeMaxBytes + 1, ' ');
  await store.put('imgstore.json', large, { ifAbsent: true });
  await assert.rejects(openRoot(store, { create: true }), isFault('LIMIT'));
});

test('a store that is gone is told from one without an object', async context => {
  const folder = join(temporaryFolder(context), 'store');
  const root = await openRoot(new DirectoryStore(folder), { create: true });
  assert.ok(await root.isPresent());
  rmSync(folder, { recursive: true });
  assert.equal(await root.isPresent(), false);
  mkdirSync(folder);
  assert.equal(await root.isPresent(), false);
});
