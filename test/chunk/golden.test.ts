/**
 * Version 1 of the cutting rule, as a second implementation (Python, from docs/format/chunk.md)
 * gave it once. Other cuts would still be right, but would share nothing with what is stored.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { sha256, sha256Hex } from '../../src/base/digest.ts';
import { FilePacker } from '../../src/chunk/file-packer.ts';
import { gearTable } from '../../src/chunk/rule.ts';
import { chunksOf, keystream } from './support.ts';

const path = join(import.meta.dirname, '..', '..', 'fixtures', 'golden', 'chunk-v1.json');
const golden: {
  gearTableFirst: number[];
  gearTableSha256: string;
  runSizeBytes: number;
  chunkLengths: number[];
  packFileCounts: number[];
} = JSON.parse(readFileSync(path, 'utf8'));

const run = keystream(1, golden.runSizeBytes);

test('golden gear table', () => {
  const table = Buffer.alloc(1024);
  for (const [byte, word] of gearTable.entries()) table.writeInt32BE(word, byte * 4);
  assert.deepEqual([...gearTable.subarray(0, 4)], golden.gearTableFirst);
  assert.equal(sha256Hex(table), golden.gearTableSha256);
});

test('golden cut points of a run', () => {
  const lengths = chunksOf(run, { alignBytes: 1 }).map(chunk => chunk.length);
  assert.deepEqual(lengths, golden.chunkLengths);
});

test('golden borders of packs', () => {
  const counts: number[] = [];
  const packer = new FilePacker<number>((_, files) => {
    counts.push(files.length);
    return undefined;
  });
  for (let index = 0, offset = 0; index < 500; index++) {
    const draw = sha256(Buffer.from(`file ${index}`)).readUInt16BE(0);
    const size = 1 + (draw % (index % 10 === 0 ? 65_535 : 16_384));
    const bytes = run.subarray(offset, offset + size);
    packer.add(index, bytes, sha256(bytes));
    offset = (offset + size) % (4 << 20);
  }
  packer.flush();
  assert.deepEqual(counts, golden.packFileCounts);
});
