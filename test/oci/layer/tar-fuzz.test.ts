/** Damaged layers: an ImgstoreError or a tree, in bounded time and memory, and nothing else. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ImgstoreError } from '../../../src/base/errors.ts';
import { flattenImage } from '../../../src/oci/layer/flatten.ts';
import { MemoryImage } from '../../support/memory-image.ts';
import { type Random, seeded } from '../../support/random.ts';
import { octal, TarBuilder, writeChecksum } from '../../support/tar-builder.ts';

/** `IMGSTORE_TEST_MUTATIONS=1000000` for a long run. */
const mutations = Number(process.env['IMGSTORE_TEST_MUTATIONS'] ?? 4000);

/** Every feature of the format in a few kilobytes. */
function seedTar(): Buffer {
  const old = (block: Buffer) => {
    block.write(octal(0, 12) + octal(3, 12) + octal(512, 12) + octal(2, 12), 386, 'latin1');
    block.write(octal(1000, 12), 483, 'latin1');
  };
  return new TarBuilder()
    .entry({ name: './', type: '5', mode: 0o755 })
    .entry({ name: 'a', format: 'v7' }, 'v7')
    .entry({ name: 'b', prefix: 'usr/lib' }, 'ustar')
    .longName(`gnu/${'n'.repeat(150)}`)
    .longName('t'.repeat(150), 'K')
    .entry({ name: 'x', type: '2', linkName: 'y', format: 'gnu' })
    .pax([
      ['path', 'pax\xff'],
      ['mtime', '-1.5'],
      ['uid', '70000'],
      ['SCHILY.xattr.user.x', '\x00\xff\n'],
      ['LIBARCHIVE.xattr.user.y', 'eA=='],
    ])
    .entry({ name: 'c' }, 'pax')
    .pax([['comment', 'global']], 'g')
    .entry({ name: 'old', type: 'S', format: 'gnu', size: 5, patch: old }, 'abcde')
    .pax([
      ['GNU.sparse.major', '1'],
      ['GNU.sparse.minor', '0'],
      ['GNU.sparse.name', 'new'],
      ['GNU.sparse.realsize', '5000'],
    ])
    .entry({ name: 'GNUSparseFile.0/new' }, `${'2\n10\n3\n4000\n2\n'.padEnd(512, '\0')}abcde`)
    .pax([
      ['GNU.sparse.size', '100'],
      ['GNU.sparse.numblocks', '1'],
      ['GNU.sparse.offset', '7'],
      ['GNU.sparse.numbytes', '3'],
    ])
    .entry({ name: 'records' }, 'abc')
    .entry({ name: 'hard', type: '1', linkName: 'a' })
    .entry({ name: 'dev/null', type: '3', major: 1, minor: 3 })
    .entry({ name: 'pipe', type: '6' })
    .entry({ name: '.wh.gone' })
    .entry({ name: 'usr/.wh..wh..opq' })
    .end();
}

function mutated(random: Random, seed: Buffer): Buffer {
  let tar = Buffer.from(seed);
  for (let count = random.between(1, 4); count > 0; count--) {
    const block = 512 * random.below(tar.length / 512);
    const other = 512 * random.below(tar.length / 512);
    const roll = random.below(10);
    if (roll < 5) {
      // A byte of the header that is likely to matter, or any.
      const at = random.chance(0.5)
        ? random.pick([124, 130, 135, 156, 257, 345, 482, 483, 386])
        : random.below(512);
      tar[block + at] = random.pick([0, 0x20, 0x30, 0x37, 0x39, 0x80, 0xff, random.below(256)]);
    } else if (roll < 7) tar.copyWithin(block, other, other + 512);
    else if (roll < 8) tar = Buffer.concat([tar.subarray(0, block), tar.subarray(other)]);
    else if (roll < 9) tar = tar.subarray(0, random.below(tar.length + 1));
    else random.bytes(random.between(1, 40)).copy(tar, block + random.below(512));
    if (tar.length < 1024) return tar;
    // A right checksum lets the damage through to the fields.
    if (random.chance(0.9) && block + 512 <= tar.length && tar[block + 257] === 0x75)
      writeChecksum(tar.subarray(block, block + 512), 'unsigned');
  }
  return tar;
}

class DroppingSink {
  bytes = 0;
  begin(): undefined {}
  write(bytes: Uint8Array): undefined {
    this.bytes += bytes.length;
  }
  end(): undefined {}
}

test(`${mutations} damaged layers`, async () => {
  const seed = seedTar();
  const outcomes = new Map<string, number>();
  await flattenImage(new MemoryImage([seed]), new DroppingSink());
  for (const random of seeded(mutations)) {
    const layers = [seed, mutated(random, seed)];
    const sink = new DroppingSink();
    let outcome = 'tree';
    try {
      const bufferBytes = random.pick([100, 512, 100_000]);
      await flattenImage(new MemoryImage(layers, { bufferBytes }), sink);
    } catch (error) {
      if (!(error instanceof ImgstoreError))
        throw new Error(`seed ${random.seed}`, { cause: error });
      outcome = error.code;
    }
    assert.ok(sink.bytes <= 3 * (layers[0]!.length + layers[1]!.length), 'no byte from nowhere');
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  for (const outcome of ['tree', 'CORRUPT', 'UNSUPPORTED', 'LIMIT'])
    assert.ok((outcomes.get(outcome) ?? 0) > 0, `${outcome} occurred`);
  assert.ok(process.memoryUsage().rss < 1024 * 1024 * 1024, 'memory stays small');
});
