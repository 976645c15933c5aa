/** Sealed chunks as an attacker would have them, without the key and with it. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import { chunkSizeMaxBytes, MiB, sealedChunkSizeMaxBytes } from '../../src/base/limits.ts';
import { chunkIdOf, openChunk, sealChunk } from '../../src/seal/seal.ts';
import { seeded } from '../support/random.ts';
import { key, referenceSeal, textOf, zeroFrame } from './support.ts';

/** Sizes on both sides of the one from which on the thread pool decompresses. */
const sizes = [5000, 200_000];

async function rejectsCorrupt(sealed: Buffer, plainSizeBytes: number, what: string): Promise<void> {
  await assert.rejects(
    openChunk(sealed, { key, plainSizeBytes }),
    (error: Error & { code?: string; hint?: string }) => {
      assert.equal(error.code, 'CORRUPT', what);
      assert.ok(error.message.startsWith(`Cannot open chunk ${chunkIdOf(sealed)}: `), what);
      assert.ok(!error.message.includes(key.toString('hex')), 'no key in a message');
      assert.ok(error.hint !== undefined, what);
      return true;
    },
  );
}

test('a changed bit anywhere is found', async () => {
  for (const plain of [Buffer.from('short'), textOf(3000), textOf(200_000)]) {
    const { sealed } = await sealChunk(plain, key);
    const { length } = sealed;
    const [random] = seeded(1, length);
    // Nonce, codec byte, the start of the data, the tag, and a sample of the rest.
    const places = [0, 5, 11, 12, 13, 14, 20, length - 16, length - 17, length - 8, length - 1];
    for (let i = 0; i < 60; i++) places.push(random!.below(length));
    for (const at of places.filter(each => each < length)) {
      const changed = Buffer.from(sealed);
      changed[at]! ^= 1 << random!.below(8);
      await rejectsCorrupt(changed, plain.length, `byte ${at} of ${length}`);
    }
  }
});

test('bytes cut off, added or moved are found', async () => {
  const plain = textOf(3000);
  const { sealed } = await sealChunk(plain, key);
  for (let size = 0; size < sealed.length; size += size < 64 ? 1 : 37) {
    await rejectsCorrupt(sealed.subarray(0, size), plain.length, `${size} bytes`);
    await rejectsCorrupt(sealed.subarray(-size - 1, -1), plain.length, `${size} bytes`);
  }
  await rejectsCorrupt(Buffer.concat([sealed, Buffer.of(0)]), plain.length, 'one more');
  await rejectsCorrupt(Buffer.concat([sealed, sealed]), plain.length, 'twice');
  await rejectsCorrupt(Buffer.alloc(sealedChunkSizeMaxBytes + 1), plain.length, 'too large');
  await rejectsCorrupt(Buffer.alloc(29), plain.length, 'no data');
});

test('another chunk’s key opens nothing', async () => {
  const { sealed } = await sealChunk(textOf(100), Buffer.alloc(32, 1));
  await rejectsCorrupt(sealed, 100, 'another key');
});

test('another size than the recipe’s is found, with either codec', async () => {
  for (const size of sizes) {
    const plain = textOf(size);
    const frame = zstdCompressSync(plain);
    for (const sealed of [referenceSeal(0, plain, key), referenceSeal(1, frame, key)]) {
      for (const wrong of [1, size - 1, size + 1, size + 100, chunkSizeMaxBytes]) {
        await rejectsCorrupt(sealed, wrong, `${size} bytes as ${wrong}`);
      }
    }
  }
});

test('a codec of a later version is UNSUPPORTED', async () => {
  for (const codec of [2, 3, 0x28, 255]) {
    await assert.rejects(
      openChunk(referenceSeal(codec, textOf(100), key), { key, plainSizeBytes: 100 }),
      { code: 'UNSUPPORTED' },
    );
  }
});

test('attack: whoever has the key seals what is not one zstd frame', async () => {
  const [random] = seeded(1, 5);
  for (const size of sizes) {
    const frame = zstdCompressSync(textOf(size));
    const skippable = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9]);
    const frames = {
      'a plain text': textOf(500),
      'random bytes': random!.bytes(500),
      'a frame cut short': frame.subarray(0, -3),
      'a frame and a byte': Buffer.concat([frame, Buffer.of(0)]),
      'two frames': Buffer.concat([frame, zstdCompressSync(Buffer.from('more'))]),
      'a frame and an empty one': Buffer.concat([frame, zstdCompressSync(Buffer.alloc(0))]),
      'a skippable frame, then one': Buffer.concat([skippable, frame]),
      'a magic number alone': frame.subarray(0, 4),
      'one byte': Buffer.of(0x28),
      'a window above the largest chunk': zeroFrame({
        sizeBytes: size,
        windowLog: 21,
        saysItsSize: false,
      }),
      'an empty frame': zstdCompressSync(Buffer.alloc(0)),
    };
    for (const [what, data] of Object.entries(frames)) {
      await rejectsCorrupt(referenceSeal(1, data, key), size, what);
    }
    for (let i = 0; i < 100; i++) {
      const damaged = Buffer.from(frame);
      damaged[random!.below(frame.length)]! ^= 1 << random!.below(8);
      const sealed = referenceSeal(1, damaged, key);
      // Not every bit of a frame matters to its size; but nothing else than this may come of it.
      const outcome = await openChunk(sealed, { key, plainSizeBytes: size }).catch(error => error);
      assert.ok(outcome.code === 'CORRUPT' || outcome.length === size, String(outcome));
    }
  }
});

test('attack: a frame that unpacks to 2000 times the chunk takes no memory for it', async () => {
  const large = { sizeBytes: 2000 * MiB };
  const slightly = { sizeBytes: chunkSizeMaxBytes + 1 };
  const bombs = {
    'no size': zeroFrame({ ...large, windowLog: 20, saysItsSize: false }),
    'no size, a large window': zeroFrame({ ...large, windowLog: 31, saysItsSize: false }),
    'a size': zeroFrame({ ...large, windowLog: undefined, saysItsSize: true }),
    'a size, a small window': zeroFrame({ ...large, windowLog: 20, saysItsSize: true }),
    'a byte too many': zeroFrame({ ...slightly, windowLog: 20, saysItsSize: false }),
    'a byte too many, and says so': zeroFrame({ ...slightly, windowLog: 20, saysItsSize: true }),
  };
  const peakBefore = process.resourceUsage().maxRSS;
  for (const [what, bomb] of Object.entries(bombs)) {
    const sealed = referenceSeal(1, bomb, key);
    for (const size of [1, 4096, 65_536, 200_000, chunkSizeMaxBytes]) {
      await rejectsCorrupt(sealed, size, what);
      await Promise.all(Array.from({ length: 8 }, () => rejectsCorrupt(sealed, size, what)));
    }
  }
  const grownKiB = process.resourceUsage().maxRSS - peakBefore;
  assert.ok(grownKiB < 96 * 1024, `${grownKiB} KiB more`);
});

test('frames made by hand open, if their size is right', async () => {
  for (const windowLog of [20, undefined]) {
    const frame = zeroFrame({
      sizeBytes: chunkSizeMaxBytes,
      windowLog,
      saysItsSize: windowLog === undefined,
    });
    const sealed = referenceSeal(1, frame, key);
    const opened = await openChunk(sealed, { key, plainSizeBytes: chunkSizeMaxBytes });
    assert.ok(opened.equals(Buffer.alloc(chunkSizeMaxBytes)));
  }
});
