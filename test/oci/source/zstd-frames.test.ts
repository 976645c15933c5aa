import assert from 'node:assert/strict';
import { test } from 'node:test';
import { constants, zstdCompressSync } from 'node:zlib';
import { splitAtFrames } from '../../../src/oci/source/zstd-frames.ts';
import { type Random, seeded } from '../../support/random.ts';
import { assertFault, collect, inPieces, inRandomPieces } from './streams.ts';

function frame(random: Random): Buffer {
  if (random.chance(0.2)) {
    const payload = random.bytes(random.pick([0, 1, 3000]));
    const header = Buffer.alloc(8);
    header.writeUInt32LE(0x184d2a50 + random.below(16));
    header.writeUInt32LE(payload.length, 4);
    return Buffer.concat([header, payload]);
  }
  // Content of one value makes RLE blocks, random content raw ones, and text compressed ones.
  const size = random.pick([0, 1, 300, 1000, 150_000]);
  const content = random.pick([
    () => Buffer.alloc(size, 7),
    () => random.bytes(size),
    () => Buffer.from('abc'.repeat(size / 3)),
  ])();
  return zstdCompressSync(content, {
    params: {
      [constants.ZSTD_c_checksumFlag]: random.below(2),
      [constants.ZSTD_c_contentSizeFlag]: random.below(2),
      [constants.ZSTD_c_compressionLevel]: random.pick([1, 3]),
    },
  });
}

test('pieces are cut at the ends of frames, and nowhere else', async () => {
  for (const random of seeded(100)) {
    const frames = Array.from({ length: random.between(1, 6) }, () => frame(random));
    const whole = Buffer.concat(frames);
    const pieceMax = random.pick([whole.length < 5000 ? 2 : 500, 5000, 1_000_000]);
    const inputEnds = new Set<number>();
    const input = (async function* () {
      let at = 0;
      for await (const piece of inRandomPieces(whole, random, pieceMax)) {
        at += piece.length;
        inputEnds.add(at);
        yield piece;
      }
    })();
    const ends: number[] = [];
    let at = 0;
    for await (const piece of splitAtFrames(input, 'layer')) {
      at += piece.length;
      ends.push(at);
    }
    const frameEnds = frames.map((_, i) => Buffer.concat(frames.slice(0, i + 1)).length);
    const expected = [...new Set([...frameEnds, ...inputEnds])].filter(end => end > 0);
    assert.deepEqual(
      ends,
      expected.sort((a, b) => a - b),
      `seed ${random.seed}`,
    );
  }
});

test('a reserved block type and a block over 128 KiB are CORRUPT', async () => {
  const head = Buffer.from('28b52ffd0058', 'hex');
  for (const block of ['070000', '05ff1f']) {
    const bytes = Buffer.concat([head, Buffer.from(block, 'hex'), Buffer.alloc(300_000)]);
    await assertFault(collect(splitAtFrames(inPieces(bytes, 100), 'layer')), 'CORRUPT', 'layer');
  }
});
