import assert from 'node:assert/strict';
import { truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { MiB } from '../../../src/base/limits.ts';
import { openRegularFile, readFully, readRange } from '../../../src/oci/source/file-range.ts';
import { Random, seeded } from '../../support/random.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { assertFault, collect, openFilesBelow } from './streams.ts';

const bytes = new Random(4).bytes(3 * MiB + 17);

test('any range is read as it is', async t => {
  const path = join(temporaryFolder(t), 'file');
  writeFileSync(path, bytes);
  const file = await open(path);
  for (const random of seeded(20)) {
    const offsetBytes = random.below(bytes.length);
    const sizeBytes = random.below(bytes.length - offsetBytes + 1);
    const read = await collect(readRange(file, { offsetBytes, sizeBytes }, 'x'));
    const expected = bytes.subarray(offsetBytes, offsetBytes + sizeBytes);
    assert.ok(read.equals(expected), `seed ${random.seed}`);
  }
  await file.close();
});

test('a file that shrinks while it is read is CORRUPT, not an endless wait', async t => {
  const path = join(temporaryFolder(t), 'file');
  writeFileSync(path, bytes);
  const file = await open(path);
  const range = { offsetBytes: 0, sizeBytes: bytes.length };
  const work = async () => {
    for await (const _ of readRange(file, range, 'layer')) truncateSync(path, 100);
  };
  await assertFault(work, 'CORRUPT', 'layer');
  await assertFault(readFully(file, 0, 101, 'layer'), 'CORRUPT', 'layer');
  assert.equal((await readFully(file, 0, 100, 'layer')).length, 100);
  await file.close();
});

test('a file may be closed as soon as the iteration is over, however it ended', async t => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'file');
  writeFileSync(path, bytes);
  const opened = await openRegularFile(path, 'x');
  assert.ok(opened !== undefined);
  assert.equal(opened.sizeBytes, bytes.length);
  for await (const _ of readRange(opened.file, { offsetBytes: 0, sizeBytes: 3 * MiB }, 'x')) break;
  await opened.file.close();
  assert.deepEqual(openFilesBelow(folder), []);
  const closed = collect(readRange(opened.file, { offsetBytes: 0, sizeBytes: 10 }, 'x'));
  await assertFault(closed, 'IO', 'x');
  assert.equal(await openRegularFile(join(folder, 'none'), 'x'), undefined);
  assert.equal(await openRegularFile(join(path, 'below'), 'x'), undefined);
});
