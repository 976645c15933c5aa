import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ImgstoreError } from '../../src/base/errors.ts';
import {
  blockSizeBytes,
  chunkSizeMaxBytes,
  inlineFileSizeMaxBytes,
  KiB,
  packedFileSizeMaxBytes,
  sparseFillMaxBytes,
} from '../../src/base/limits.ts';
import { ContentWriter } from '../../src/push/content-writer.ts';
import { DataRegion } from '../../src/push/data-region.ts';
import type { DataRun, FileContent } from '../../src/tree/tree.ts';
import { manyBytes } from '../support/pushing.ts';
import { Random, seeded } from '../support/random.ts';
import { KeepingSink, type TestContent, Writing } from './support.ts';

/** Zeros with random bytes in the runs. */
function sparse(random: Random, sizeBytes: number, runs: readonly DataRun[]): Buffer {
  const file = Buffer.alloc(sizeBytes);
  for (const { offsetBytes, lengthBytes } of runs)
    manyBytes(random, lengthBytes).copy(file, offsetBytes);
  return file;
}

test('the size decides where a file goes', () => {
  const random = new Random(1);
  const writing = new Writing();
  const inline = [0, 1, inlineFileSizeMaxBytes - 1, inlineFileSizeMaxBytes];
  const packed = [inlineFileSizeMaxBytes + 1, blockSizeBytes, packedFileSizeMaxBytes - 1];
  const large = [packedFileSizeMaxBytes, packedFileSizeMaxBytes + 1, chunkSizeMaxBytes + 1];
  const add = (sizeBytes: number) => writing.add(manyBytes(random, sizeBytes));
  const inlineContents = inline.map(add);
  const packedContents = packed.map(add);
  const largeContents = large.map(add);
  const layout = writing.layout([...inlineContents, ...packedContents, ...largeContents]);
  for (const content of inlineContents)
    assert.equal(layout.placementOf(content).kind, 'inline', `${content.sizeBytes} bytes`);
  for (const content of [...packedContents, ...largeContents]) {
    const placement = layout.placementOf(content);
    assert.ok(placement.kind === 'extents', `${content.sizeBytes} bytes`);
    assert.equal(placement.extents.length, 1, 'data of one file is in one place');
    assert.equal(placement.extents[0]!.dataOffsetBytes % blockSizeBytes, 0);
  }
  // Small files share a chunk, large ones do not.
  assert.equal(writing.region.layout(packedContents).chunks.length, 1);
  for (const content of largeContents.slice(0, 2)) assert.equal(writing.chunkCount(content), 1);
  assert.ok(writing.chunkCount(largeContents[2]!) > 1);
});

test('equal contents share one place, however they are delivered', () => {
  const random = new Random(2);
  const writing = new Writing();
  for (const sizeBytes of [inlineFileSizeMaxBytes + 1, 40_000, 3 * chunkSizeMaxBytes]) {
    const file = manyBytes(random, sizeBytes);
    const first = writing.add(file);
    const second = writing.add(file, { random });
    const other = writing.add(Buffer.concat([file, Buffer.alloc(1)]));
    const layout = writing.layout([first, second, other]);
    assert.deepEqual(layout.placementOf(first), layout.placementOf(second));
    assert.notDeepEqual(layout.placementOf(first), layout.placementOf(other));
    assert.equal(
      writing.region.layout([second]).sizeBytes,
      writing.region.layout([first]).sizeBytes,
    );
  }
});

test('a hole is a hole whether the source knows it or not', () => {
  const random = new Random(3);
  const writing = new Writing();
  for (const sizeBytes of [50_000, 500_000]) {
    const runs = [{ offsetBytes: sizeBytes - 20_000, lengthBytes: 10_000 }];
    const file = sparse(random, sizeBytes, runs);
    const known = writing.add(file, { runs });
    const unknown = writing.add(file);
    const layout = writing.layout([known, unknown]);
    assert.deepEqual(layout.placementOf(known), layout.placementOf(unknown));
  }
  const empty = writing.add(Buffer.alloc(10_000_000), { runs: [] });
  assert.equal(writing.layout([empty]).sizeBytes, 0);
});

test('runs at odd offsets, single bytes, and one after the other', () => {
  const random = new Random(4);
  const writing = new Writing();
  const cases: [number, DataRun[]][] = [
    [700, [{ offsetBytes: 699, lengthBytes: 1 }]],
    [400, [{ offsetBytes: 3, lengthBytes: 5 }]],
    [65_535, [{ offsetBytes: 0, lengthBytes: 1 }]],
    [65_536, [{ offsetBytes: 65_535, lengthBytes: 1 }]],
    [
      300_001,
      [
        { offsetBytes: 1, lengthBytes: 1 },
        { offsetBytes: 65_535, lengthBytes: 2 },
        { offsetBytes: 200_000, lengthBytes: 0 },
        { offsetBytes: 300_000, lengthBytes: 1 },
        { offsetBytes: 300_001, lengthBytes: 0 },
      ],
    ],
  ];
  const contents = cases.map(([sizeBytes, runs]) =>
    writing.add(sparse(random, sizeBytes, runs), { runs, random }),
  );
  writing.layout(contents);
});

test('a small file after a larger one with other bytes at the same place', () => {
  const writing = new Writing();
  const contents = [
    writing.add(Buffer.alloc(60_000, 0xff)),
    writing.add(sparse(new Random(5), 50_000, []), { runs: [] }),
    writing.add(Buffer.alloc(50_000, 0xee)),
    writing.add(Buffer.alloc(300, 0xff)),
    writing.add(Buffer.alloc(300), { runs: [] }),
  ];
  writing.layout(contents);
});

test('chunks that no file of the tree needs are left out', () => {
  const random = new Random(6);
  const writing = new Writing();
  const contents: TestContent[] = [];
  for (let i = 0; i < 60; i++) {
    const sizeBytes = random.pick([300, 30_000, 60_000, 400_000]);
    contents.push(writing.add(manyBytes(random, sizeBytes)));
  }
  writing.writer.layerEnd();
  const all = writing.layout(contents);
  for (let round = 0; round < 20; round++) {
    const needed = contents.filter(() => random.chance(0.2));
    const layout = writing.layout(needed);
    assert.ok(layout.sizeBytes <= all.sizeBytes);
    const order = layout.chunks.map(ticket => all.chunks.indexOf(ticket));
    assert.deepEqual(
      order,
      [...order].sort((a, b) => a - b),
      'in the order of cutting',
    );
    assert.ok(!order.includes(-1));
  }
  assert.equal(writing.layout([]).sizeBytes, 0);
});

test('a layer gives the same packs below whatever layers came before', () => {
  const files = Array.from({ length: 30 }, (_, i) => manyBytes(new Random(100 + i), 3000 + i));
  const alone = new Writing();
  const expected = alone.layout(files.map(file => alone.add(file)));
  const above = new Writing();
  for (let i = 0; i < 5; i++) above.add(manyBytes(new Random(200 + i), 5000));
  above.writer.layerEnd();
  const layout = above.layout(files.map(file => above.add(file)));
  const keysOf = (chunks: readonly { key: Buffer }[]) =>
    chunks.map(({ key }) => key.toString('hex'));
  assert.deepEqual(keysOf(layout.chunks), keysOf(expected.chunks));
});

test('any files in any order and any splits: each is found again, and the chunks are the same', () => {
  for (const random of seeded(12)) {
    const files: { file: Buffer; runs: DataRun[] | undefined }[] = [];
    for (let i = random.between(1, 40); i > 0; i--) files.push(randomFile(random, files));
    const [first, second] = [new Writing(), new Writing()];
    const layouts = [first, second].map(writing =>
      writing.layout(
        files.map(({ file, runs }) =>
          writing.add(file, { random, ...(runs === undefined ? {} : { runs }) }),
        ),
      ),
    );
    const keys = layouts.map(({ chunks }) => chunks.map(({ key }) => key.toString('hex')));
    assert.deepEqual(keys[0], keys[1], `seed ${random.seed}`);
  }
});

function randomFile(
  random: Random,
  earlier: readonly { file: Buffer; runs: DataRun[] | undefined }[],
): { file: Buffer; runs: DataRun[] | undefined } {
  if (earlier.length > 0 && random.chance(0.2)) return random.pick(earlier);
  const around = random.pick([512, 4096, 64 * KiB, chunkSizeMaxBytes]);
  const sizeBytes = random.pick([random.below(around), around - 1, around, around + 1]);
  if (random.chance(0.5)) return { file: manyBytes(random, sizeBytes), runs: undefined };
  const runs: DataRun[] = [];
  for (let at = random.below(sizeBytes + 1); at < sizeBytes; ) {
    const lengthBytes = Math.min(sizeBytes - at, random.between(1, 100_000));
    runs.push({ offsetBytes: at, lengthBytes });
    at += lengthBytes + random.between(1, 200_000);
  }
  return { file: sparse(random, sizeBytes, runs), runs };
}

test('contents that are not delivered as they should are a bug, never zeros', () => {
  const begun = (given: Partial<FileContent>) => {
    const writer = new ContentWriter(new DataRegion(), new KeepingSink());
    writer.begin({ ordinal: 0, sizeBytes: 1000, runs: undefined, ...given });
    return writer;
  };
  for (const sizeBytes of [1, 1000, 100_000]) {
    assert.throws(() => begun({ sizeBytes }).end(), /every run of the content was delivered/);
    const more = () => begun({ sizeBytes }).write(Buffer.alloc(sizeBytes + 1));
    assert.throws(more, /no more is delivered/);
  }
  const runs = [
    { offsetBytes: 500, lengthBytes: 10 },
    { offsetBytes: 505, lengthBytes: 10 },
  ];
  assert.throws(() => begun({ runs }).write(Buffer.alloc(20)), /in order/);
  const half = begun({ runs: [{ offsetBytes: 5, lengthBytes: 10 }] });
  half.write(Buffer.alloc(9));
  assert.throws(() => half.end(), /every run/);
  assert.throws(
    () => begun({}).begin({ ordinal: 1, sizeBytes: 0, runs: undefined }),
    /one content/,
  );
  assert.throws(() => new ContentWriter(new DataRegion(), new KeepingSink()).end(), /has begun/);
});

test('zeros that nobody sent have a limit', () => {
  const region = new DataRegion();
  const writer = new ContentWriter(region, new KeepingSink());
  const key = Buffer.alloc(32);
  region.append({ key, plainSizeBytes: sparseFillMaxBytes + KiB, stored: undefined });
  const runs = [{ offsetBytes: 1000, lengthBytes: 1 }];
  writer.begin({ ordinal: 0, sizeBytes: 100_000, runs });
  assert.throws(
    () => writer.write(Buffer.alloc(1)),
    (error: unknown) => {
      assert.ok(error instanceof ImgstoreError);
      assert.equal(error.code, 'LIMIT');
      assert.match(error.message, /sparse files: over 64 GiB of zeros/);
      return true;
    },
  );
});
