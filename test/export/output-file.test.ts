import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { test } from 'node:test';
import { outputStream, writeAllAt, writeOutputFile } from '../../src/export/output-file.ts';

function temporaryFolder(context: { after(fn: () => void): void }): string {
  const dir = mkdtempSync(join(tmpdir(), 'imgstore-output-'));
  context.after(() => rmSync(dir, { recursive: true }));
  return dir;
}

test('a file appears when it is whole, and not at all after an error', async context => {
  const dir = temporaryFolder(context);
  const path = join(dir, 'file');
  await writeOutputFile(path, async file => {
    await file.write('half');
    assert.deepEqual(readdirSync(dir).includes('file'), false);
    await file.write(' and half');
  });
  assert.equal(readFileSync(path, 'utf8'), 'half and half');
  const fault = new Error('fault');
  const failing = writeOutputFile(path, async file => {
    await file.write('other');
    throw fault;
  });
  await assert.rejects(failing, fault);
  assert.deepEqual(readdirSync(dir), ['file']);
  assert.equal(readFileSync(path, 'utf8'), 'half and half');
});

test('pieces are written whole where writes come back short', async () => {
  const written = Buffer.alloc(10, '.');
  const calls: number[] = [];
  const short = {
    async writev(pieces: readonly Buffer[], at: number) {
      const bytes = Buffer.concat([...pieces]).subarray(0, 3);
      calls.push(bytes.length);
      bytes.copy(written, at);
      return { bytesWritten: bytes.length };
    },
  };
  const file = short as unknown as Parameters<typeof writeAllAt>[0];
  await writeAllAt(file, [Buffer.from('ab'), Buffer.alloc(0), Buffer.from('cdefg')], 2);
  assert.equal(written.toString(), '..abcdefg.');
  assert.deepEqual(calls, [3, 3, 1]);
});

test('a stream of pieces fills the file in order and leaves it open', async context => {
  const path = join(temporaryFolder(context), 'file');
  const pieces = Array.from({ length: 300 }, (_, i) => Buffer.alloc(1 + i * 7, i));
  await using file = await open(path, 'w');
  await pipeline(pieces, outputStream(file));
  assert.ok(readFileSync(path).equals(Buffer.concat(pieces)));
  assert.equal((await file.stat()).size, Buffer.concat(pieces).length);
});

test('the error says what and why', async context => {
  const dir = temporaryFolder(context);
  writeFileSync(join(dir, 'file'), '');
  const refused = (path: string, message: RegExp) =>
    assert.rejects(
      writeOutputFile(path, async () => {}),
      { name: 'ImgstoreError', code: 'IO', message },
    );
  await refused(join(dir, 'no', 'file'), /^Cannot write .*: no such file or directory$/);
  await refused(join(dir, 'file', 'below'), /: a part of the path is not a directory$/);
  await refused(dir, /: something else than a file is there$/);
});
