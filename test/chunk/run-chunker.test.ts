import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cutRule } from '../../src/chunk/rule.ts';
import { RunChunker } from '../../src/chunk/run-chunker.ts';
import { isZero } from '../../src/chunk/zero.ts';
import { type Random, seeded } from '../support/random.ts';
import { chunksOf, keystream, referenceCuts, smallSizes } from './support.ts';

const rule = cutRule(smallSizes);

/** Runs as they come: random, of few values, repeated, constant, with holes, of any length. */
function randomRun(random: Random): Buffer {
  const parts: Buffer[] = [];
  for (let i = random.between(1, 5); i > 0; i--) {
    const size = random.below(random.pick([100, 5000, 100_000, 300_000]));
    const bytes = keystream(random.u32(), size);
    const kind = random.below(4);
    if (kind === 1) for (let at = 0; at < size; at++) bytes[at]! &= 1;
    if (kind === 2) bytes.fill(random.below(256));
    if (kind === 3) bytes.fill(bytes.subarray(0, random.between(1, 3000)));
    parts.push(bytes);
  }
  return Buffer.concat(parts);
}

function randomSplits(random: Random, size: number): number[] {
  const count = random.below(random.pick([1, 4, 40, 400]));
  return Array.from({ length: count }, () => random.below(size + 1)).sort((a, b) => a - b);
}

/** Holds for the chunks of any run. */
function checkChunks(chunks: Buffer[], run: Buffer, sizes = smallSizes): void {
  const joined = Buffer.concat(chunks);
  assert.ok(joined.subarray(0, run.length).equals(run), 'the chunks are the run');
  assert.ok(isZero(joined.subarray(run.length)), 'padding is zeros');
  assert.equal(joined.length, Math.ceil(run.length / 4096) * 4096, 'padded to a block, no more');
  for (const [i, { length }] of chunks.entries()) {
    assert.ok(length <= sizes.maxBytes, `chunk ${i} has ${length} bytes`);
    if (i < chunks.length - 1) assert.ok(length > sizes.minBytes, `chunk ${i} has ${length} bytes`);
  }
  const last = chunks.at(-1);
  if (last !== undefined) assert.ok(joined.length - run.length < last.length, 'not only padding');
}

test('any run is cut as the document says, however it is split over writes', () => {
  for (const random of seeded(150)) {
    const run = randomRun(random);
    const splits = randomSplits(random, run.length);
    const chunks = chunksOf(run, { sizes: smallSizes, splits });
    try {
      checkChunks(chunks, run);
      const lengths = chunks.map(chunk => chunk.length);
      if (lengths.length > 0) lengths[lengths.length - 1]! -= (4096 - (run.length % 4096)) % 4096;
      assert.deepEqual(lengths, referenceCuts(run, smallSizes));
    } catch (error) {
      throw new Error(`seed ${random.seed}`, { cause: error });
    }
  }
});

test('byte by byte is the same as at once', () => {
  const run = keystream(1, 150_001);
  const splits = Array.from(run.keys());
  assert.deepEqual(
    chunksOf(run, { sizes: smallSizes, splits }),
    chunksOf(run, { sizes: smallSizes }),
  );
});

test('a run without any cut point ends by force, and its tail fits', () => {
  const { forcedBytes, minBytes, maxBytes } = rule;
  for (const around of [
    0,
    minBytes,
    forcedBytes,
    forcedBytes + minBytes,
    2 * forcedBytes,
    maxBytes,
  ]) {
    for (const delta of [-4097, -4096, -4095, -1, 0, 1, 4095, 4096, 4097]) {
      const size = around + delta;
      if (size < 0) continue;
      const run = Buffer.alloc(size, 0x20);
      const chunks = chunksOf(run, { sizes: smallSizes });
      checkChunks(chunks, run);
      const tail = size % forcedBytes;
      const joins = size > forcedBytes && tail < minBytes && tail <= maxBytes - forcedBytes;
      const expected = Math.floor(size / forcedBytes) + (tail === 0 || joins ? 0 : 1);
      assert.equal(chunks.length, expected, `${size} bytes`);
    }
  }
});

test('a tail below the minimum joins the chunk before it, unless that would be too large', () => {
  for (const random of seeded(400)) {
    const run = keystream(random.seed, random.between(40_000, 400_000));
    const chunks = chunksOf(run, { sizes: smallSizes });
    if (chunks.length < 2) continue;
    const tail = run.length - Buffer.concat(chunks.slice(0, -1)).length;
    const together = chunks.at(-2)!.length + chunks.at(-1)!.length;
    assert.ok(
      tail >= smallSizes.minBytes || together > smallSizes.maxBytes,
      `seed ${random.seed}: a tail of ${tail} bytes`,
    );
  }
});

test('equal runs give equal chunks, whatever the same chunker cut before', () => {
  const run = keystream(2, 300_000);
  const chunks: Buffer[] = [];
  const chunker = new RunChunker(bytes => {
    chunks.push(bytes);
    return undefined;
  }, smallSizes);
  const cut = (bytes: Buffer): Buffer[] => {
    chunker.write(bytes);
    chunker.end({ alignBytes: 4096 });
    return chunks.splice(0);
  };
  const first = cut(run);
  cut(keystream(3, 12_345));
  cut(Buffer.alloc(0));
  assert.deepEqual(cut(run), first);
});

test('an insertion, a removal or a change in the middle leaves most chunks as they were', () => {
  const renewed: number[] = [];
  for (const random of seeded(30)) {
    const run = keystream(random.seed, 2 << 20);
    const at = random.between(run.length / 4, run.length / 2);
    const piece = random.bytes(random.between(1, 3000));
    const edits = {
      insertion: Buffer.concat([run.subarray(0, at), piece, run.subarray(at)]),
      removal: Buffer.concat([run.subarray(0, at), run.subarray(at + piece.length)]),
      change: Buffer.concat([run.subarray(0, at), piece, run.subarray(at + piece.length)]),
    };
    const before = new Set(chunksOf(run, { sizes: smallSizes }).map(c => c.toString('latin1')));
    for (const [edit, edited] of Object.entries(edits)) {
      const after = chunksOf(edited, { sizes: smallSizes });
      const fresh = after.filter(chunk => !before.has(chunk.toString('latin1'))).length;
      // Around the edit until both meet at one cut, and the last one, whose padding moves.
      assert.ok(
        fresh <= 10,
        `seed ${random.seed}: ${edit} renews ${fresh} of ${after.length} chunks`,
      );
      renewed.push(fresh);
    }
  }
  const mean = renewed.reduce((sum, fresh) => sum + fresh) / renewed.length;
  assert.ok(mean < 4, `${mean} of about 64 chunks are new on average`);
});

test('the real sizes: bounds, and the target as the mean', () => {
  const run = keystream(4, 48 << 20);
  const chunks = chunksOf(run);
  checkChunks(chunks, run, { minBytes: 64 << 10, targetBytes: 256 << 10, maxBytes: 1 << 20 });
  const mean = run.length / chunks.length / 1024;
  assert.ok(mean > 235 && mean < 277, `mean ${mean} KiB`);
});

test('back-pressure: nothing is emitted before the promise of the last chunk is done', async () => {
  const run = keystream(5, 400_000);
  const chunks: Buffer[] = [];
  let busy = false;
  const chunker = new RunChunker(bytes => {
    assert.ok(!busy, 'one at a time');
    chunks.push(bytes);
    if (chunks.length % 3 === 0) return undefined;
    busy = true;
    return new Promise<void>(resolve => {
      setImmediate(() => {
        busy = false;
        resolve();
      });
    });
  }, smallSizes);
  let waits = 0;
  for (let from = 0; from < run.length; from += 150_000) {
    // The caller's buffer is its own again once the promise is done.
    const bytes = Buffer.from(run.subarray(from, from + 150_000));
    const wait = chunker.write(bytes);
    if (wait !== undefined) waits++;
    await wait;
    assert.ok(!busy, 'a write waits for the chunks that it completed');
    bytes.fill(0);
  }
  await chunker.end({ alignBytes: 4096 });
  assert.ok(!busy && waits > 1);
  assert.deepEqual(chunks, chunksOf(run, { sizes: smallSizes }));
});

test('nothing waits when no emit does', () => {
  const chunker = new RunChunker(() => undefined, smallSizes);
  assert.equal(chunker.write(keystream(6, 400_000)), undefined);
  assert.equal(chunker.end({ alignBytes: 4096 }), undefined);
});

test('a fault of the receiver reaches the writer', async () => {
  const full = new Error('disk full');
  const later = new RunChunker(() => Promise.reject(full), smallSizes);
  await assert.rejects(async () => later.write(keystream(7, 400_000)), full);
  const now = new RunChunker(() => {
    throw full;
  }, smallSizes);
  assert.throws(() => now.write(keystream(7, 400_000)), full);
});

test('a chunk is the receiver’s own', () => {
  const run = keystream(8, 300_000);
  const copies: Buffer[] = [];
  const chunker = new RunChunker(bytes => {
    copies.push(Buffer.from(bytes));
    assert.equal(bytes.buffer.byteLength, bytes.length, 'no larger buffer is kept alive');
    bytes.fill(0xee);
    return undefined;
  }, smallSizes);
  chunker.write(run);
  chunker.end({ alignBytes: 4096 });
  assert.deepEqual(copies, chunksOf(run, { sizes: smallSizes }));
});

test('padding goes up to the multiple asked for, of the run and not of the chunk', () => {
  const run = keystream(9, 100_001);
  const total = (alignBytes: number): number =>
    Buffer.concat(chunksOf(run, { sizes: smallSizes, alignBytes })).length;
  assert.deepEqual([1, 2, 512, 4096].map(total), [100_001, 100_002, 100_352, 102_400]);
  assert.throws(() => total(8192), { name: 'AssertionError' });
  assert.throws(() => total(0), { name: 'AssertionError' });
});
