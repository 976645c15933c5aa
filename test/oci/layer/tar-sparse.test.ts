/** Sparse files: hand-made maps of all four formats, and what GNU tar writes. */

import assert from 'node:assert/strict';
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ImgstoreError } from '../../../src/base/errors.ts';
import type { DataRun } from '../../../src/tree/tree.ts';
import { runChecked } from '../../support/processes.ts';
import { type Random, seeded } from '../../support/random.ts';
import { base256, octal, padded, TarBuilder } from '../../support/tar-builder.ts';
import { type ReadEntry, readOne, readTar } from '../../support/tar-entries.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

type Pair = [offset: number, length: number];

function pairsOf(...numbers: number[]): Pair[] {
  return numbers.flatMap((n, i): Pair[] => (i % 2 === 0 ? [[n, numbers[i + 1]!]] : []));
}

/** Old format: four pairs in the header, 21 in each block after it. */
function oldSparse(pairs: Pair[], realSize: number, data: string): Buffer {
  const text = pairs.map(([offset, length]) => octal(offset, 12) + octal(length, 12));
  const blocks: Buffer[] = [];
  for (let i = 4; i < text.length; i += 21) {
    const block = Buffer.alloc(512);
    block.write(text.slice(i, i + 21).join(''), 'latin1');
    block[504] = i + 21 < text.length ? 1 : 0;
    blocks.push(block);
  }
  const patch = (header: Buffer) => {
    header.write(text.slice(0, 4).join(''), 386, 'latin1');
    header[482] = blocks.length > 0 ? 1 : 0;
    header.write(octal(realSize, 12), 483, 'latin1');
  };
  const tar = new TarBuilder();
  tar.entry({ name: 'sparse', type: 'S', format: 'gnu', size: data.length, patch });
  return tar
    .raw(Buffer.concat(blocks))
    .raw(padded(Buffer.from(data)))
    .entry({ name: 'z' })
    .end();
}

function pax00(pairs: Pair[], realSize: number, data: string): Buffer {
  const records: [string, string][] = [
    ['GNU.sparse.size', String(realSize)],
    ['GNU.sparse.numblocks', String(pairs.length)],
  ];
  for (const [offset, length] of pairs)
    records.push(['GNU.sparse.offset', `${offset}`], ['GNU.sparse.numbytes', `${length}`]);
  return new TarBuilder().pax(records).entry({ name: 'sparse' }, data).entry({ name: 'z' }).end();
}

function pax01(pairs: Pair[], realSize: number, data: string): Buffer {
  const records: [string, string][] = [
    ['GNU.sparse.size', String(realSize)],
    ['GNU.sparse.numblocks', String(pairs.length)],
    ['GNU.sparse.name', 'sparse'],
    ['GNU.sparse.map', pairs.flat().join(',')],
  ];
  return new TarBuilder()
    .pax(records)
    .entry({ name: 'GNUSparseFile.1/sparse' }, data)
    .entry({ name: 'z' })
    .end();
}

function pax10(pairs: Pair[], realSize: number, data: string): Buffer {
  const map = padded(Buffer.from([pairs.length, ...pairs.flat(), ''].join('\n')));
  return new TarBuilder()
    .pax([
      ['GNU.sparse.major', '1'],
      ['GNU.sparse.minor', '0'],
      ['GNU.sparse.name', 'sparse'],
      ['GNU.sparse.realsize', String(realSize)],
    ])
    .entry({ name: 'GNUSparseFile.1/sparse' }, Buffer.concat([map, Buffer.from(data)]))
    .entry({ name: 'z' })
    .end();
}

const formats = { 'old GNU': oldSparse, 'PAX 0.0': pax00, 'PAX 0.1': pax01, 'PAX 1.0': pax10 };

function sparseOf(tar: Buffer, bufferBytes?: number): ReadEntry {
  const entries = readTar(tar, bufferBytes);
  assert.deepEqual(
    entries.map(entry => entry.path),
    ['sparse', 'z'],
    'the next entry is found',
  );
  return entries[0]!;
}

function runs(pairs: Pair[]): DataRun[] {
  return pairs.map(([offsetBytes, lengthBytes]) => ({ offsetBytes, lengthBytes }));
}

for (const [name, write] of Object.entries(formats)) {
  test(`${name}: the runs of a sparse file`, () => {
    const entry = sparseOf(write(pairsOf(1000, 4, 5000, 3, 9000, 0), 9000, 'abcdefg'));
    assert.equal(entry.type, 'file');
    assert.equal(entry.sizeBytes, 9000);
    assert.deepEqual(entry.runs, runs(pairsOf(1000, 4, 5000, 3)));
    assert.equal(entry.data.toString(), 'abcdefg');
  });

  test(`${name}: nothing but a hole, and no hole at all`, () => {
    const hole = sparseOf(write(pairsOf(4096, 0), 4096, ''));
    assert.deepEqual([hole.sizeBytes, hole.runs], [4096, []]);
    const full = sparseOf(write(pairsOf(0, 3, 3, 4), 7, 'abcdefg'));
    assert.deepEqual([full.sizeBytes, full.runs], [7, undefined]);
  });

  test(`${name}: many runs, in buffers of any size`, () => {
    const pairs = Array.from({ length: 100 }, (_, i): Pair => [i * 100, 2]);
    const tar = write(pairs, 20_000, 'ab'.repeat(100));
    const entry = sparseOf(tar);
    assert.deepEqual(entry.runs, runs(pairs));
    for (const bufferBytes of [1, 511, 513])
      assert.deepEqual(sparseOf(tar, bufferBytes), entry, `buffers of ${bufferBytes}`);
  });

  const wrong: Record<string, [Pair[], number, string]> = {
    'runs that overlap': [pairsOf(0, 4, 3, 3), 10, 'abcdefg'],
    'runs out of order': [pairsOf(5, 4, 0, 3), 10, 'abcdefg'],
    'a run beyond the size': [pairsOf(5, 7), 10, 'abcdefg'],
    'less data than the map says': [pairsOf(0, 8), 10, 'abcdefg'],
    'more data than the map says': [pairsOf(0, 6), 10, 'abcdefg'],
  };
  for (const [what, [pairs, size, data]] of Object.entries(wrong)) {
    test(`${name}: ${what} is refused`, () => {
      assert.throws(
        () => readTar(write(pairs, size, data)),
        error =>
          error instanceof ImgstoreError &&
          error.code === 'CORRUPT' &&
          /entry sparse: its sparse map/.test(error.message),
      );
    });
  }
}

function refused(tar: TarBuilder, code: ImgstoreError['code']): void {
  assert.throws(
    () => readTar(tar.end()),
    error => error instanceof ImgstoreError && error.code === code,
  );
}

test('malformed maps are refused', () => {
  const map = (text: string, count = '1') =>
    new TarBuilder()
      .pax([
        ['GNU.sparse.size', '10'],
        ['GNU.sparse.numblocks', count],
        ['GNU.sparse.map', text],
      ])
      .entry({ name: 'a' }, 'abc');
  for (const text of ['0', '0,3,', '0,x', ',', '-3,3', '0,-3', '0,3,5'])
    refused(map(text), 'CORRUPT');
  for (const count of ['', '2', '-1', 'x']) refused(map('0,3', count), 'CORRUPT');
  const text = (content: string) =>
    new TarBuilder()
      .pax([
        ['GNU.sparse.major', '1'],
        ['GNU.sparse.minor', '0'],
        ['GNU.sparse.realsize', '10'],
      ])
      .entry({ name: 'a' }, content);
  for (const content of ['', '1\n0\n', 'x', '\n', '1\n\n', '1\n0 3\n', `${'9'.repeat(16)}\n`])
    refused(text(content.padEnd(512, '\0')), 'CORRUPT');
  refused(text('1\n0\n3\n'), 'CORRUPT'); // less than a block
});

test('records of 0.0 come in pairs', () => {
  for (const keys of [['numbytes'], ['offset', 'offset'], ['offset', 'numbytes', 'numbytes']]) {
    const records = keys.map((key): [string, string] => [`GNU.sparse.${key}`, '0']);
    refused(new TarBuilder().pax(records).entry({ name: 'a' }), 'CORRUPT');
  }
});

test('a map of more runs than are allowed is refused while it is read', () => {
  const line = '1\n'.repeat(256);
  const tar = new TarBuilder()
    .pax([
      ['GNU.sparse.major', '1'],
      ['GNU.sparse.minor', '0'],
      ['GNU.sparse.realsize', '10'],
    ])
    .entry({ name: 'a', size: base256(2n ** 40n, 12) })
    .raw(Buffer.from(`999999999999999\n${line.repeat(8000)}`));
  refused(tar, 'LIMIT');
});

test('sparse sizes beyond a disk are refused', () => {
  const records: [string, string][] = [
    ['GNU.sparse.size', String(2 ** 50)],
    ['GNU.sparse.numblocks', '0'],
    ['GNU.sparse.map', ''],
    ['GNU.sparse.major', '0'],
    ['GNU.sparse.minor', '1'],
  ];
  refused(new TarBuilder().pax(records).entry({ name: 'a' }), 'LIMIT');
});

test('only files are sparse, and type S only in a GNU header', () => {
  const records: [string, string][] = [
    ['GNU.sparse.numblocks', '1'],
    ['GNU.sparse.map', '0,0'],
  ];
  refused(new TarBuilder().pax(records).entry({ name: 'a', type: '5' }), 'CORRUPT');
  refused(new TarBuilder().entry({ name: 'a', type: 'S' }), 'CORRUPT');
});

test('a sparse version that nobody knows is left alone', () => {
  const records: [string, string][] = [
    ['GNU.sparse.major', '2'],
    ['GNU.sparse.minor', '0'],
  ];
  const entry = readOne(new TarBuilder().pax(records).entry({ name: 'a' }, 'data').end());
  assert.deepEqual([entry.sizeBytes, entry.runs], [4, undefined]);
});

/** A file of holes and data in pieces of 4 KiB, as file systems keep them. */
function makeSparseFile(path: string, random: Random, pieces: number): void {
  const fd = openSync(path, 'w');
  let at = 0;
  for (let i = 0; i < pieces; i++) {
    const length = 4096 * random.between(1, 3);
    if (random.chance(0.5)) writeSync(fd, random.bytes(length), 0, length, at);
    at += length;
  }
  ftruncateSync(fd, at + random.below(4096));
  closeSync(fd);
}

const producers = {
  'old GNU': ['--format=gnu'],
  'PAX 0.0': ['--format=posix', '--sparse-version=0.0'],
  'PAX 0.1': ['--format=posix', '--sparse-version=0.1'],
  'PAX 1.0': ['--format=posix', '--sparse-version=1.0'],
};

for (const [name, options] of Object.entries(producers)) {
  test(`GNU tar's sparse files come out whole: ${name}`, async context => {
    const dir = temporaryFolder(context);
    const names: string[] = [];
    for (const random of seeded(12)) {
      const file = `${random.seed}-${'n'.repeat(random.pick([5, 120]))}`;
      makeSparseFile(join(dir, file), random, random.pick([0, 1, 5, 150]));
      names.push(file);
    }
    const archive = join(dir, 'archive.tar');
    await runChecked('tar', ['-S', ...options, '-cf', archive, '-C', dir, ...names]);
    const entries = readTar(readFileSync(archive), 1000);
    assert.deepEqual(
      entries.map(entry => entry.path),
      names,
    );
    assert.ok(
      entries.some(entry => (entry.runs?.length ?? 0) > 21),
      'some map is long',
    );
    for (const entry of entries) {
      const file = Buffer.alloc(entry.sizeBytes);
      let at = 0;
      for (const run of entry.runs ?? runs(pairsOf(0, entry.sizeBytes))) {
        entry.data.copy(file, run.offsetBytes, at, at + run.lengthBytes);
        at += run.lengthBytes;
      }
      assert.equal(at, entry.data.length);
      assert.ok(file.equals(readFileSync(join(dir, entry.path))), `${entry.path} is the same`);
    }
  });
}
