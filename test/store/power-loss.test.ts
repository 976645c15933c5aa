/**
 * Durability, as a loss of power would judge it: the store lies on a file system in a file, and that
 * file, copied at once, holds what the disk would: only what was synced. A long commit interval
 * keeps the file system from saving what nobody asked it to.
 */

import assert from 'node:assert/strict';
import {
  closeSync,
  copyFileSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { DirectoryStore } from '../../src/store/directory-store.ts';
import { keysOf } from '../contract/object-store.ts';
import { runChecked } from '../support/processes.ts';
import { assertSameBytes } from '../support/same-bytes.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const sizeMaxBytes = 1024 * 1024;

interface Disk {
  /** The mounted file system. */
  folder: string;
  /** What it would hold after a loss of power now. */
  afterPowerLoss(): Promise<DirectoryStore>;
}

async function createDisk(context: TestContext): Promise<Disk> {
  const base = temporaryFolder(context);
  const image = join(base, 'image');
  writeFileSync(image, '');
  truncateSync(image, 32 * 1024 * 1024);
  await runChecked('mkfs.ext4', ['-q', '-F', image]);
  let mounts = 0;
  const mount = async (file: string): Promise<string> => {
    const folder = join(base, `mount${mounts++}`);
    mkdirSync(folder);
    await runChecked('mount', ['-o', 'loop,commit=300', file, folder]);
    return folder;
  };
  const afterPowerLoss = async () => {
    const copy = join(base, `copy${mounts}`);
    copyFileSync(image, copy);
    return new DirectoryStore(await mount(copy));
  };
  return { folder: await mount(image), afterPowerLoss };
}

test('what put, replace and remove confirmed is so after a loss of power', async context => {
  const disk = await createDisk(context);
  const store = new DirectoryStore(disk.folder);
  const keys = ['a/1', 'a/2', 'a/b/3', 'c/4'];
  const bytes = (n: number) => Buffer.alloc(100_000, n);
  await Promise.all(keys.map((key, n) => store.put(key, bytes(n), { ifAbsent: true })));
  const first = await disk.afterPowerLoss();
  assert.deepEqual(await keysOf(first, ''), keys);
  for (const [n, key] of keys.entries()) {
    assertSameBytes(await first.get(key, { sizeMaxBytes }), bytes(n), key);
  }

  await store.put('a/1', bytes(11), { ifAbsent: false });
  const second = await disk.afterPowerLoss();
  assertSameBytes(await second.get('a/1', { sizeMaxBytes }), bytes(11));

  await store.remove('a/2');
  const third = await disk.afterPowerLoss();
  assert.deepEqual(await keysOf(third, ''), ['a/1', 'a/b/3', 'c/4']);
});

test("'exists' is as durable as 'created', whoever created it", async context => {
  const disk = await createDisk(context);
  const store = new DirectoryStore(disk.folder);
  await store.put('a/1', Buffer.from('first'), { ifAbsent: true });
  // Another writer that has come as far as the link.
  const temporary = join(disk.folder, 'tmp', 'other');
  const descriptor = openSync(temporary, 'wx');
  writeSync(descriptor, 'second');
  fsyncSync(descriptor);
  closeSync(descriptor);
  linkSync(temporary, join(disk.folder, 'a', '2'));
  const before = await disk.afterPowerLoss();
  assert.equal(
    await before.get('a/2', { sizeMaxBytes }),
    undefined,
    'the link alone is not durable',
  );
  assert.equal(await store.put('a/2', Buffer.from('second'), { ifAbsent: true }), 'exists');
  const after = await disk.afterPowerLoss();
  assert.equal((await after.get('a/2', { sizeMaxBytes }))?.toString(), 'second');
});
