import assert from 'node:assert/strict';
import { test } from 'node:test';
import { blockSizeBytes, chunkSizeMaxBytes, KiB } from '../../src/base/limits.ts';
import { DataRegion, type Piece } from '../../src/push/data-region.ts';
import { LargeFileCutter } from '../../src/push/large-file.ts';
import { manyBytes } from '../support/pushing.ts';
import { Random, seeded } from '../support/random.ts';
import { KeepingSink, split } from './support.ts';

const windowBytes = 64 * KiB;

interface Cut {
  pieces: readonly Piece[];
  identity: string;
  chunks: readonly Buffer[];
}

/** A part of a file: its bytes, or a number of zeros that nobody sends. */
type Part = Buffer | number;

function cut(parts: readonly Part[], random?: Random): Cut {
  const region = new DataRegion();
  const sink = new KeepingSink();
  const cutter = new LargeFileCutter(region, sink);
  const sizeBytes = parts.reduce<number>((sum, part) => sum + lengthOf(part), 0);
  cutter.begin({ sizeBytes, windowBytes });
  for (const part of parts) {
    if (typeof part === 'number') cutter.writeZeros(part);
    else for (const bytes of split(part, random)) cutter.write(bytes);
  }
  const { pieces, identity } = cutter.end();
  const chunks = pieces.map(({ chunk }) => sink.plain.get(region.chunk(chunk))!);
  return { pieces, identity, chunks };
}

function lengthOf(part: Part): number {
  return typeof part === 'number' ? part : part.length;
}

function fileOf(parts: readonly Part[]): Buffer {
  return Buffer.concat(parts.map(part => (typeof part === 'number' ? Buffer.alloc(part) : part)));
}

/** Fails unless the pieces hold all windows with data and no others, from block to block. */
function check(file: Buffer, { pieces, chunks }: Cut): void {
  const found = Buffer.alloc(file.length);
  const covered = Buffer.alloc(Math.ceil(file.length / windowBytes));
  let endBytes = 0;
  pieces.forEach(({ chunkOffsetBytes, fileOffsetBytes, lengthBytes }, i) => {
    const chunk = chunks[i]!;
    assert.equal(chunkOffsetBytes, 0);
    assert.ok(chunk.length <= chunkSizeMaxBytes);
    assert.ok(lengthBytes > 0 && lengthBytes <= chunk.length);
    assert.ok(fileOffsetBytes >= endBytes, 'pieces are in order');
    if (fileOffsetBytes > endBytes || i === 0)
      assert.equal(fileOffsetBytes % windowBytes, 0, 'a run begins at a window');
    endBytes = fileOffsetBytes + lengthBytes;
    const runEnds = pieces[i + 1]?.fileOffsetBytes !== endBytes;
    if (runEnds) {
      assert.ok(endBytes === file.length || endBytes % windowBytes === 0, 'a run ends at a window');
      const paddedBytes = Math.ceil(endBytes / blockSizeBytes) * blockSizeBytes;
      assert.equal(chunk.length - lengthBytes, paddedBytes - endBytes, 'padded to its block');
      assert.ok(chunk.subarray(lengthBytes).every(byte => byte === 0));
    } else {
      assert.equal(lengthBytes, chunk.length);
    }
    chunk.copy(found, fileOffsetBytes, 0, lengthBytes);
    covered.fill(1, Math.floor(fileOffsetBytes / windowBytes), Math.ceil(endBytes / windowBytes));
  });
  assert.ok(found.equals(file), 'the pieces are the file');
  covered.forEach((isCovered, window) => {
    const bytes = file.subarray(window * windowBytes, (window + 1) * windowBytes);
    const hasData = !bytes.equals(zero.subarray(0, bytes.length));
    assert.equal(isCovered === 1, hasData, `window ${window} is a hole if it is all zeros`);
  });
}

const zero = Buffer.alloc(windowBytes);
const lastByte = Buffer.from(zero).fill(1, windowBytes - 1);
const firstByte = Buffer.from(zero).fill(1, 0, 1);
const data = manyBytes(new Random(1), windowBytes);

test('windows of zeros at every place are holes', () => {
  for (let pattern = 0; pattern < 32; pattern++) {
    const windows = Array.from({ length: 5 }, (_, i) => (pattern & (1 << i) ? data : zero));
    check(fileOf(windows), cut(windows));
    for (const tail of [1, 4095, 4096, 4097]) {
      const zeroTail = [...windows, Buffer.alloc(tail)];
      check(fileOf(zeroTail), cut(zeroTail));
      const dataTail = [...windows, Buffer.alloc(tail, 7)];
      check(fileOf(dataTail), cut(dataTail));
    }
  }
});

test('one byte at either end of a window makes it data', () => {
  for (const windows of [
    [lastByte],
    [zero, lastByte, zero],
    [firstByte, zero, lastByte],
    [lastByte, firstByte],
    [zero, zero, firstByte],
  ]) {
    check(fileOf(windows), cut(windows));
  }
});

test('sizes around a window and around the largest chunk', () => {
  const random = new Random(2);
  for (const border of [windowBytes, 2 * windowBytes, chunkSizeMaxBytes, 2 * chunkSizeMaxBytes]) {
    for (const sizeBytes of [border - 1, border, border + 1]) {
      const bytes = manyBytes(random, sizeBytes);
      check(bytes, cut([bytes]));
      check(Buffer.alloc(sizeBytes), cut([sizeBytes]));
      const oneByte = Buffer.alloc(sizeBytes);
      oneByte[sizeBytes - 1] = 1;
      check(oneByte, cut([oneByte]));
    }
  }
});

test('a file of zeros has no pieces, and none of another size is equal to it', () => {
  const sent = cut([Buffer.alloc(5 * windowBytes)]);
  assert.deepEqual(sent.pieces, []);
  assert.equal(cut([5 * windowBytes]).identity, sent.identity);
  assert.notEqual(cut([6 * windowBytes]).identity, sent.identity);
});

test('gaps and splits anywhere: what counts is the file', () => {
  for (const random of seeded(40)) {
    const parts: Part[] = [];
    for (let i = random.between(1, 8); i > 0; i--) {
      const size = random.pick([1, 100, 4096, windowBytes, 3 * windowBytes, 600 * KiB]);
      const length = random.between(1, size);
      parts.push(random.chance(0.5) ? length : manyBytes(random, length));
    }
    const file = fileOf(parts);
    const pieced = cut(parts, random);
    check(file, pieced);
    assert.deepEqual(cut([file]), pieced, `seed ${random.seed}`);
    assert.deepEqual(cut([file], random), pieced, `seed ${random.seed}`);
  }
});

test('equal files are told by their identity, files that differ by a byte too', () => {
  const file = manyBytes(new Random(3), 3 * chunkSizeMaxBytes);
  const { identity } = cut([file]);
  assert.equal(cut([file], new Random(4)).identity, identity);
  const other = Buffer.from(file);
  other[other.length - 1]! ^= 1;
  assert.notEqual(cut([other]).identity, identity);
  // The same data with the hole elsewhere.
  assert.notEqual(cut([windowBytes, file]).identity, cut([file, windowBytes]).identity);
});

test('one cutter cuts any number of files alike', () => {
  const region = new DataRegion();
  const cutter = new LargeFileCutter(region, new KeepingSink());
  const file = manyBytes(new Random(5), 700 * KiB);
  const identities = [0, 1, 2].map(() => {
    cutter.begin({ sizeBytes: file.length, windowBytes });
    cutter.write(file);
    return cutter.end().identity;
  });
  assert.equal(new Set(identities).size, 1);
});

test('more or fewer bytes than the size are a bug of the caller', () => {
  const begun = () => {
    const cutter = new LargeFileCutter(new DataRegion(), new KeepingSink());
    cutter.begin({ sizeBytes: 100_000, windowBytes });
    return cutter;
  };
  assert.throws(() => begun().write(Buffer.alloc(100_001)), /no more than its size/);
  assert.throws(() => begun().writeZeros(100_001), /no more than its size/);
  const short = begun();
  short.write(Buffer.alloc(99_999));
  assert.equal(short.position, 99_999);
  assert.throws(() => short.end(), /all of the file was written/);
});
