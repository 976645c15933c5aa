import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { LayerFolder } from '../../../src/push/memo/layer-folder.ts';
import { mountReadOnly, temporaryFolder } from '../../support/temporary-folder.ts';

const nameOf = (count: number) => count.toString(16).padStart(64, '0');

/** A folder whose clock goes on by a minute at every look. */
function folderIn(path: string, sizeMaxBytes?: number): LayerFolder {
  let minutes = 0;
  const now = () => new Date(Date.UTC(2026, 0, 1, 0, minutes++));
  return new LayerFolder(path, { now, ...(sizeMaxBytes && { sizeMaxBytes }) });
}

test('memos are kept, for this user alone, and replaced', async context => {
  const path = join(temporaryFolder(context), 'home', 'layers');
  const folder = folderIn(path);
  assert.equal(await folder.has(nameOf(1)), false);
  assert.equal(await folder.read(nameOf(1)), undefined);
  await folder.write(nameOf(1), [Buffer.from('a'), Buffer.from('bc')]);
  assert.equal(await folder.has(nameOf(1)), true);
  assert.equal((await folder.read(nameOf(1)))?.toString(), 'abc');
  await folder.write(nameOf(1), [Buffer.from('d')]);
  assert.equal((await folder.read(nameOf(1)))?.toString(), 'd');
  assert.equal(statSync(path).mode & 0o777, 0o700);
  assert.equal(statSync(join(path, nameOf(1))).mode & 0o777, 0o600);
  assert.deepEqual(readdirSync(join(path, 'tmp')), []);
});

test('what was used longest ago goes when there are too many bytes', async context => {
  const path = temporaryFolder(context);
  const folder = folderIn(path, 1000);
  writeFileSync(join(path, 'foreign'), Buffer.alloc(5000));
  for (let i = 0; i < 4; i++) {
    await folder.write(nameOf(i), [Buffer.alloc(250, i)]);
    utimesSync(join(path, nameOf(i)), 1000 + i, 1000 + i);
  }
  await folder.read(nameOf(0));
  await folder.write(nameOf(4), [Buffer.alloc(300)]);
  const there = () => [0, 1, 2, 3, 4].filter(i => readdirSync(path).includes(nameOf(i)));
  assert.deepEqual(there(), [0, 3, 4]);
  await folder.write(nameOf(4), [Buffer.alloc(2000)]);
  assert.deepEqual(there(), [4], 'the newest stays, even alone over the bound');
  assert.ok(readdirSync(path).includes('foreign'));
});

test('what is no plain file is not read; a folder that cannot be written says so', async context => {
  const path = temporaryFolder(context);
  const folder = folderIn(path);
  writeFileSync(join(path, 'target'), 'x');
  symlinkSync('target', join(path, nameOf(1)));
  mkdirSync(join(path, nameOf(2)));
  for (const name of [nameOf(1), nameOf(2)]) assert.equal(await folder.read(name), undefined);
  const io = { code: 'IO', message: /^Cannot note a layer in .*: / };
  await assert.rejects(folder.write(nameOf(2), [Buffer.from('x')]), io);
  assert.deepEqual(readdirSync(join(path, 'tmp')), []);
  await mountReadOnly(path);
  await assert.rejects(folder.write(nameOf(3), [Buffer.from('x')]), io);
});
