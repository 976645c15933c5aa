import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sha256 } from '../../src/base/digest.ts';
import { FilePacker, PackEnds, type PackedFile } from '../../src/chunk/file-packer.ts';
import type { ChunkSizes } from '../../src/chunk/rule.ts';
import { isZero } from '../../src/chunk/zero.ts';
import { type Random, seeded } from '../support/random.ts';
import { keystream, smallSizes } from './support.ts';

interface Pack {
  bytes: Buffer;
  files: readonly PackedFile<Buffer>[];
}

/** The packs of some files; each file is its own token. */
function packsOf(files: readonly Buffer[], sizes: ChunkSizes = smallSizes): Pack[] {
  const packs: Pack[] = [];
  const packer = new FilePacker<Buffer>((bytes, packed) => {
    packs.push({ bytes, files: packed });
    return undefined;
  }, sizes);
  for (const file of files) packer.add(file, file, sha256(file));
  packer.flush();
  return packs;
}

function randomFiles(random: Random, count: number, sizeMaxBytes: number): Buffer[] {
  const bytes = keystream(random.seed, count * sizeMaxBytes);
  return Array.from({ length: count }, (_, i) =>
    bytes.subarray(i * sizeMaxBytes, i * sizeMaxBytes + random.between(1, sizeMaxBytes)),
  );
}

/** How many files each pack has; straight from docs/format/chunk.md. */
function referencePacks(files: readonly Buffer[], sizes: ChunkSizes): number[] {
  const bits = Math.log2(sizes.targetBytes);
  const counts: number[] = [];
  let blocks = 0;
  let count = 0;
  const end = (): void => {
    if (count > 0) counts.push(count);
    blocks = count = 0;
  };
  for (const file of files) {
    const own = Math.ceil(file.length / 4096);
    if ((blocks + own) * 4096 > sizes.maxBytes) end();
    blocks += own;
    count++;
    const size = blocks * 4096;
    const rate = 2 ** -(size < (sizes.targetBytes * 13) / 16 ? bits + 2 : bits - 2);
    const draw = Number.parseInt(sha256(file).toString('hex').slice(0, 8), 16) / 2 ** 32;
    if (size >= sizes.minBytes && draw < own * 4096 * rate) end();
  }
  end();
  return counts;
}

test('every file is in one pack, whole, at a block, in order; the rest is zeros', () => {
  for (const random of seeded(100)) {
    const sizeMax = random.pick([100, 4096, 9000, 65535]);
    const files = randomFiles(random, random.below(120), sizeMax);
    const packs = packsOf(files);
    const seed = `seed ${random.seed}`;
    assert.deepEqual(
      packs.flatMap(pack => pack.files.map(file => file.token)),
      files,
      seed,
    );
    for (const { bytes, files: packed } of packs) {
      assert.ok(bytes.length <= smallSizes.maxBytes && bytes.length % 4096 === 0, seed);
      assert.equal(bytes.buffer.byteLength, bytes.length, 'no larger buffer is kept alive');
      let end = 0;
      for (const { token, offsetBytes, lengthBytes } of packed) {
        assert.equal(offsetBytes, Math.ceil(end / 4096) * 4096, seed);
        assert.ok(isZero(bytes.subarray(end, offsetBytes)), seed);
        end = offsetBytes + lengthBytes;
        assert.ok(bytes.subarray(offsetBytes, end).equals(token), seed);
      }
      assert.equal(bytes.length, Math.ceil(end / 4096) * 4096, seed);
      assert.ok(isZero(bytes.subarray(end)), seed);
    }
  }
});

test('packs end where the document says', () => {
  for (const random of seeded(100)) {
    const files = randomFiles(random, 150, random.pick([100, 4096, 9000, 20_000, 65535]));
    const counts = packsOf(files).map(pack => pack.files.length);
    assert.deepEqual(counts, referencePacks(files, smallSizes), `seed ${random.seed}`);
  }
});

test('whatever the sizes of the files, packs come out near the target', () => {
  for (const sizeMax of [2000, 8000, 30_000]) {
    const [random] = seeded(1, sizeMax);
    const files = randomFiles(random!, Math.ceil(24e6 / (sizeMax + 4096)), sizeMax);
    const packs = packsOf(files);
    const mean = packs.reduce((sum, pack) => sum + pack.bytes.length, 0) / packs.length;
    const ratio = mean / smallSizes.targetBytes;
    assert.ok(ratio > 0.9 && ratio < 1.25, `files up to ${sizeMax}: mean ${mean}`);
  }
});

test('a file that is added, removed or changed renews the packs around it and no others', () => {
  const renewed: number[] = [];
  for (const random of seeded(60)) {
    const files = randomFiles(random, 400, 9000);
    const before = new Set(packsOf(files).map(pack => pack.bytes.toString('latin1')));
    const at = random.between(100, 200);
    const other = random.bytes(random.between(1, 9000));
    const edits = {
      addition: files.toSpliced(at, 0, other),
      removal: files.toSpliced(at, 1),
      change: files.toSpliced(at, 1, other),
    };
    for (const [edit, edited] of Object.entries(edits)) {
      const after = packsOf(edited);
      const fresh = after.filter(pack => !before.has(pack.bytes.toString('latin1'))).length;
      assert.ok(fresh <= 30, `seed ${random.seed}: ${edit} renews ${fresh} of ${after.length}`);
      renewed.push(fresh);
    }
  }
  const mean = renewed.reduce((sum, fresh) => sum + fresh) / renewed.length;
  assert.ok(mean < 3, `${mean} of about 90 packs are new on average`);
});

test('no choice of files makes a pack pass the maximum', () => {
  const { minBytes, maxBytes } = smallSizes;
  const never = Buffer.alloc(32, 0xff);
  const always = Buffer.alloc(32);
  for (const size of [1, 4096, 4097, 20_000, 65_535, maxBytes]) {
    for (const digest of [never, always]) {
      const sizes: number[] = [];
      const packer = new FilePacker<number>(bytes => {
        sizes.push(bytes.length);
        return undefined;
      }, smallSizes);
      for (let i = 0; i < 100; i++) packer.add(i, Buffer.alloc(size, 1), digest);
      packer.flush();
      const padded = Math.ceil(size / 4096) * 4096;
      assert.equal(
        sizes.reduce((sum, each) => sum + each),
        100 * padded,
      );
      assert.ok(sizes.every(each => each <= maxBytes));
      if (digest === always) assert.equal(sizes[0], Math.max(minBytes, padded));
      else if (size <= 4096) assert.equal(sizes[0], maxBytes);
    }
  }
});

test('back-pressure: packs are emitted in order, one at a time, and the caller’s bytes are free', async () => {
  for (const random of seeded(5)) {
    const files = randomFiles(random, 120, 65535);
    const packs: Pack[] = [];
    let busy = false;
    const packer = new FilePacker<Buffer>((bytes, packed) => {
      assert.ok(!busy, 'one at a time');
      busy = true;
      packs.push({ bytes, files: packed });
      return new Promise<void>(resolve => {
        setImmediate(() => {
          busy = false;
          resolve();
        });
      });
    }, smallSizes);
    for (const file of files) {
      const bytes = Buffer.from(file);
      const wait = packer.add(file, bytes, sha256(file));
      bytes.fill(0xee);
      await wait;
      assert.ok(!busy, 'an add waits for the packs that it completed');
    }
    await packer.flush();
    assert.deepEqual(packs, packsOf(files), `seed ${random.seed}`);
  }
});

test('flush emits nothing when there is nothing', () => {
  const packer = new FilePacker<number>(() => assert.fail('a pack without files'), smallSizes);
  assert.equal(packer.flush(), undefined);
});

test('a file that is empty, too large or without its digest is a bug', () => {
  const packer = new FilePacker<number>(() => undefined, smallSizes);
  const bug = { name: 'AssertionError' };
  assert.throws(() => packer.add(1, Buffer.alloc(0), Buffer.alloc(32)), bug);
  const large = Buffer.alloc(smallSizes.maxBytes + 1);
  assert.throws(() => packer.add(1, large, Buffer.alloc(32)), bug);
  assert.throws(() => packer.add(1, Buffer.alloc(10), Buffer.alloc(20)), bug);
});

test('where packs end can be told without the bytes', () => {
  for (const random of seeded(50)) {
    const files = randomFiles(random, 80, random.pick([100, 9000, 65_535]));
    const packs = packsOf(files);
    const ends = new PackEnds(smallSizes);
    const told: { file: Buffer; offsetBytes: number }[][] = [[]];
    for (const file of files) {
      const { offsetBytes, endsBefore, endsAfter } = ends.add(file.length, sha256(file));
      if (endsBefore) told.push([]);
      told.at(-1)!.push({ file, offsetBytes });
      if (endsAfter) told.push([]);
    }
    if (told.at(-1)!.length === 0) told.pop();
    const real = packs.map(pack =>
      pack.files.map(({ token, offsetBytes }) => {
        return { file: token, offsetBytes };
      }),
    );
    assert.deepEqual(told, real, `seed ${random.seed}`);
  }
});
