import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  rmdirSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { sha256Hex } from '../../src/base/digest.ts';
import { DirectoryStore } from '../../src/store/directory-store.ts';
import { isFault, keysOf, testCopyingStore, testObjectStore } from '../contract/object-store.ts';
import { runChecked, startCommand } from '../support/processes.ts';
import { assertSameBytes } from '../support/same-bytes.ts';
import {
  mountReadOnly,
  mountTmpfs,
  temporaryFolder,
  unmount,
} from '../support/temporary-folder.ts';

testObjectStore('directory store', context => new DirectoryStore(temporaryFolder(context)));
testCopyingStore('directory store', async context => new DirectoryStore(temporaryFolder(context)));

const sizeMaxBytes = 1024 * 1024;
const writerProcess = join(import.meta.dirname, 'writer-process.ts');

test('several processes: exactly one creates each object', async context => {
  const folder = temporaryFolder(context);
  const results = await Promise.all(
    [1, 2, 3].map(seed => runChecked(process.execPath, [writerProcess, folder, 'race', `${seed}`])),
  );
  const outcomes = results.map(result => result.stdout.trim().split('\n'));
  const store = new DirectoryStore(folder);
  for (let i = 0; i < 100; i++) {
    const creators = outcomes.flatMap((lines, seed) => (lines[i] === 'created' ? [seed + 1] : []));
    assert.equal(creators.length, 1);
    const bytes = await store.get(`race/${i % 10}/${i}`, { sizeMaxBytes });
    assertSameBytes(bytes, Buffer.alloc(10_000, creators[0]));
  }
  assert.deepEqual(readdirSync(join(folder, 'tmp')), []);
});

test('a writer killed with SIGKILL leaves whole objects, and what it confirmed', async context => {
  const folder = temporaryFolder(context);
  for (let round = 1; round <= 6; round++) {
    const { child, result } = startCommand(process.execPath, [
      writerProcess,
      folder,
      'endless',
      `${round}`,
    ]);
    await once(child.stdout!, 'data');
    await sleep(round * 15);
    child.kill('SIGKILL');
    const { signal, stdout } = await result;
    assert.equal(signal, 'SIGKILL');
    const store = new DirectoryStore(folder);
    const seen = new Set<string>();
    for (const key of await keysOf(store, '')) {
      const bytes = await store.get(key, { sizeMaxBytes });
      const hash = sha256Hex(bytes!).slice(0, 16);
      assert.equal(key, `whole/${hash.slice(0, 2)}/${hash}`);
      seen.add(hash);
    }
    // The last line may be cut: the process was killed while it wrote it.
    const confirmed = stdout.split('\n').filter(line => line.length === 16);
    assert.ok(confirmed.length > 0);
    for (const hash of confirmed) assert.ok(seen.has(hash), `round ${round}: ${hash} is there`);
  }
});

test('what killed writers left in tmp/ goes after a day, and nothing else does', async context => {
  const folder = temporaryFolder(context);
  mkdirSync(join(folder, 'tmp', 'folder'), { recursive: true });
  const nowMs = Date.now();
  const hourMs = 60 * 60 * 1000;
  for (const [name, ageHours] of [
    ['old', 25],
    ['young', 23],
    ['ahead', -30],
  ] as const) {
    writeFileSync(join(folder, 'tmp', name), 'x');
    const seconds = (nowMs - ageHours * hourMs) / 1000;
    utimesSync(join(folder, 'tmp', name), seconds, seconds);
  }
  const store = new DirectoryStore(folder, { now: () => nowMs });
  assert.deepEqual(await keysOf(store, ''), [], 'tmp/ is no part of the store');
  assert.ok(existsSync(join(folder, 'tmp', 'old')), 'reading removes nothing');
  await store.put('k', Buffer.from('x'), { ifAbsent: true });
  assert.deepEqual(readdirSync(join(folder, 'tmp')).sort(), ['ahead', 'folder', 'young']);
  await assert.rejects(store.get('tmp/young', { sizeMaxBytes }), isFault('USAGE'));
  await assert.rejects(store.put('tmp/x', Buffer.alloc(1), { ifAbsent: true }), isFault('USAGE'));
});

test('a full disk: the put fails with the state, leaves nothing, and works again', async context => {
  const folder = temporaryFolder(context);
  await mountTmpfs(folder, 1024 * 1024);
  const store = new DirectoryStore(folder);
  const bytes = Buffer.alloc(300 * 1024, 1);
  for (const key of ['a', 'b', 'c']) await store.put(key, bytes, { ifAbsent: true });
  await assert.rejects(
    store.put('d', bytes, { ifAbsent: true }),
    isFault('IO', /^Cannot write d in the store .*: no space left on the device$/),
  );
  assert.deepEqual(await keysOf(store, ''), ['a', 'b', 'c']);
  assert.deepEqual(readdirSync(join(folder, 'tmp')), []);
  await store.remove('a');
  assert.equal(await store.put('d', bytes, { ifAbsent: true }), 'created');
});

test('a read-only store is read, and says what it is when written to', async context => {
  const folder = temporaryFolder(context);
  const store = new DirectoryStore(folder);
  await store.put('a/k', Buffer.from('x'), { ifAbsent: true });
  await mountReadOnly(folder);
  for (const reader of [store, new DirectoryStore(folder)]) {
    assert.equal((await reader.get('a/k', { sizeMaxBytes }))?.toString(), 'x');
    const readOnly = isFault('IO', /: the store is read-only$/);
    await assert.rejects(reader.put('n', Buffer.alloc(1), { ifAbsent: true }), readOnly);
    await assert.rejects(reader.remove('a/k'), readOnly);
    assert.equal(await reader.put('a/k', Buffer.alloc(1), { ifAbsent: true }), 'exists');
  }
});

test('a store that vanishes is UNAVAILABLE to writers and is not made anew', async context => {
  const parent = temporaryFolder(context);
  const folder = join(parent, 'store');
  mkdirSync(folder);
  await mountTmpfs(folder, 1024 * 1024);
  const store = new DirectoryStore(folder);
  await store.put('a/k', Buffer.from('x'), { ifAbsent: true });
  await unmount(folder);
  const gone = isFault('UNAVAILABLE', /the store's folder is gone/);
  await assert.rejects(store.put('a/n', Buffer.alloc(1), { ifAbsent: true }), gone);
  rmdirSync(folder);
  await assert.rejects(store.put('b', Buffer.alloc(1), { ifAbsent: false }), gone);
  assert.equal(await store.get('a/k', { sizeMaxBytes }), undefined);
  assert.ok(!existsSync(folder));
  mkdirSync(join(folder, 'tmp'), { recursive: true });
  assert.equal(await store.put('a/n', Buffer.alloc(1), { ifAbsent: true }), 'created');
});

test('the first put makes the folder and those above it', async context => {
  const folder = join(temporaryFolder(context), 'not', 'yet', 'there');
  const store = new DirectoryStore(folder);
  assert.equal(await store.get('k', { sizeMaxBytes }), undefined);
  assert.deepEqual(await keysOf(store, ''), []);
  assert.ok(!existsSync(folder));
  assert.equal(await store.put('k', Buffer.from('x'), { ifAbsent: true }), 'created');
  assert.deepEqual(readdirSync(folder).sort(), ['k', 'tmp']);
});

test('permissions are what the umask leaves', async context => {
  const folder = join(temporaryFolder(context), 'store');
  const before = process.umask(0o027);
  try {
    await new DirectoryStore(folder).put('a/k', Buffer.from('x'), { ifAbsent: true });
  } finally {
    process.umask(before);
  }
  const mode = (...path: string[]) => statSync(join(folder, ...path)).mode & 0o7777;
  assert.deepEqual([mode(), mode('tmp'), mode('a'), mode('a', 'k')], [0o750, 0o750, 0o750, 0o640]);
});

test('what is no regular file is not read, followed or waited for', async context => {
  const folder = temporaryFolder(context);
  const store = new DirectoryStore(folder);
  await store.put('a/k', Buffer.from('x'), { ifAbsent: true });
  symlinkSync('/etc/passwd', join(folder, 'link'));
  symlinkSync(folder, join(folder, 'a', 'loop'));
  await runChecked('mkfifo', [join(folder, 'pipe')]);
  await assert.rejects(store.get('link', { sizeMaxBytes }), isFault('IO', /symbolic link$/));
  await assert.rejects(store.get('pipe', { sizeMaxBytes }), isFault('IO', /not a regular file$/));
  assert.equal(await store.stat('link'), undefined);
  assert.equal(await store.stat('pipe'), undefined);
  assert.deepEqual(await keysOf(store, ''), ['a/k']);
});

test('list shows foreign files, under names that are no keys too', async context => {
  const folder = temporaryFolder(context);
  const store = new DirectoryStore(folder);
  const deep = 'd/'.repeat(400);
  mkdirSync(join(folder, 'My Documents', deep), { recursive: true });
  writeFileSync(join(folder, 'My Documents', 'x y'), 'z');
  writeFileSync(join(folder, 'My Documents', deep, 'too deep'), 'z');
  assert.deepEqual(await keysOf(store, ''), ['My Documents/x y']);
});

test('emptied folders go, whatever is put into them at the same time', async context => {
  const folder = temporaryFolder(context);
  const stores = [new DirectoryStore(folder), new DirectoryStore(folder)];
  const work = Array.from({ length: 8 }, async (_, i) => {
    const store = stores[i % 2]!;
    for (let round = 0; round < 40; round++) {
      const key = `a/b/${i}`;
      assert.equal(await store.put(key, Buffer.from(key), { ifAbsent: true }), 'created');
      assert.equal((await store.get(key, { sizeMaxBytes }))?.toString(), key);
      await store.remove(key);
    }
  });
  await Promise.all(work);
  assert.deepEqual(readdirSync(folder), ['tmp']);
});

test('an abort while the bytes are written leaves nothing behind', async context => {
  const folder = temporaryFolder(context);
  const store = new DirectoryStore(folder);
  await store.put('first', Buffer.alloc(1), { ifAbsent: true });
  const abort = new AbortController();
  const put = store.put('k', Buffer.alloc(1000), { ifAbsent: true, signal: abort.signal });
  abort.abort(new Error('given up'));
  await assert.rejects(put, /given up/);
  assert.deepEqual(await keysOf(store, ''), ['first']);
  assert.deepEqual(readdirSync(join(folder, 'tmp')), []);
});
