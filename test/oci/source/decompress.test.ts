import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { constants, gzipSync, zstdCompressSync } from 'node:zlib';
import { ImgstoreError } from '../../../src/base/errors.ts';
import { KiB, MiB } from '../../../src/base/limits.ts';
import { compressionOf, decompress } from '../../../src/oci/source/decompress.ts';
import { runChecked } from '../../support/processes.ts';
import { Random, seeded } from '../../support/random.ts';
import { assertFault, collect, inPieces, inRandomPieces } from './streams.ts';

const label = 'layer sha256:0 of oci:x';
const roomy = { label, sizeMaxBytes: 1024 * MiB };
const skippable = Buffer.concat([Buffer.from('542a4d1805000000', 'hex'), Buffer.from('index')]);

function unpack(bytes: Buffer, pieceBytes = 64 * KiB): Promise<Buffer> {
  return collect(decompress(inPieces(bytes, pieceBytes), roomy));
}

/** Bytes that shrink, but not to nothing. */
function text(random: Random, sizeBytes: number): Buffer {
  const words = Array.from({ length: 50 }, () => random.text(random.between(3, 9), 'abcdefghij'));
  let all = '';
  while (all.length < sizeBytes) all += `${random.pick(words)} `;
  return Buffer.from(all.slice(0, sizeBytes));
}

test('compression is told from the first bytes', () => {
  const told = (hex: string) => compressionOf(Buffer.from(hex, 'hex'));
  assert.equal(told('1f8b08000000'), 'gzip');
  assert.equal(told('28b52ffd0000'), 'zstd');
  assert.equal(told('502a4d180000'), 'zstd');
  assert.equal(told('5f2a4d180000'), 'zstd');
  assert.equal(told('602a4d180000'), 'plain');
  assert.equal(told('425a68393141'), 'bzip2');
  assert.equal(told('fd377a585a00'), 'xz');
  assert.equal(told(''), 'plain');
  assert.equal(told('1f'), 'plain');
});

test('plain, members and frames, in pieces of any size, come out as they went in', async () => {
  for (const random of seeded(60)) {
    const parts = Array.from({ length: random.between(1, 5) }, () =>
      text(random, random.pick([0, 1, 500, 70_000])),
    );
    const plain = Buffer.concat(parts);
    const zeros = Buffer.alloc(random.pick([0, 1, 511, 3 * KiB]));
    const forms = {
      plain,
      gzip: Buffer.concat([...parts.map(part => gzipSync(part)), zeros]),
      zstd: Buffer.concat(parts.flatMap(part => [zstdCompressSync(part), skippable])),
      skippableFirst: Buffer.concat([skippable, zstdCompressSync(plain)]),
    };
    for (const [form, bytes] of Object.entries(forms)) {
      const pieces = inRandomPieces(
        bytes,
        random,
        random.pick([plain.length < 5000 ? 3 : 300, 5000, 100_000]),
      );
      const out = await collect(decompress(pieces, roomy));
      assert.ok(out.equals(plain), `${form}, seed ${random.seed}`);
    }
  }
});

test('what pigz, pzstd and zstd write is read whole', async () => {
  const plain = text(new Random(7), 3 * MiB);
  const commands = [
    ['pigz', '-c', '-i', '-b', '128'],
    ['pzstd', '-c', '-q', '-p', '4'],
    ['zstd', '-c', '-q', '--long=27', '--no-check'],
    ['zstd', '-c', '-q', '-9', '-T2', '-B524288'],
  ];
  for (const [file, ...args] of commands) {
    const command = `${file} ${args.join(' ')} | base64 -w0`;
    const { stdout } = await runChecked('bash', ['-o', 'pipefail', '-c', command], {
      input: plain,
    });
    const out = await unpack(Buffer.from(stdout, 'base64'));
    assert.ok(out.equals(plain), command);
  }
});

test('a blob that ends early is CORRUPT, wherever it ends', async () => {
  const plain = text(new Random(1), 600);
  const checksum = { params: { [constants.ZSTD_c_checksumFlag]: 1 } };
  for (const packed of [
    gzipSync(plain),
    zstdCompressSync(plain),
    zstdCompressSync(plain, checksum),
  ]) {
    for (let length = 6; length < packed.length; length++) {
      await assertFault(unpack(packed.subarray(0, length)), 'CORRUPT', label);
    }
    const twice = Buffer.concat([packed, packed.subarray(0, packed.length - 5)]);
    await assertFault(unpack(twice), 'CORRUPT', label);
  }
});

test('only zeros may follow gzip data, and nothing zstd data', async () => {
  const packed = gzipSync('content');
  const zeros = Buffer.alloc(200 * KiB);
  const junk = Buffer.from('junk');
  assert.equal((await unpack(Buffer.concat([packed, zeros]))).toString(), 'content');
  for (const tail of [
    [junk],
    [zeros, junk],
    [zeros, packed],
    [Buffer.from([0, 1])],
    [Buffer.alloc(1), packed],
  ]) {
    for (const pieceBytes of [packed.length + 1, 1 * KiB, 1 * MiB, 8 * MiB]) {
      await assertFault(unpack(Buffer.concat([packed, ...tail]), pieceBytes), 'CORRUPT', label);
    }
  }
  const frame = zstdCompressSync('content');
  for (const tail of [junk, Buffer.alloc(1), Buffer.alloc(512), packed]) {
    await assertFault(unpack(Buffer.concat([frame, tail])), 'CORRUPT', label);
  }
});

test('flipped bits are a fault of the blob or change what its digest covers, never a hang', async () => {
  for (const random of seeded(150)) {
    const plain = text(random, 3000);
    const packed = random.pick([gzipSync, zstdCompressSync])(plain);
    packed[random.below(packed.length)]! ^= 1 << random.below(8);
    try {
      await collect(decompress(inRandomPieces(packed, random, 500), roomy));
    } catch (error) {
      assert.ok(error instanceof ImgstoreError, `seed ${random.seed}: ${error}`);
    }
  }
});

test('bytes of no sense behind a magic are CORRUPT', async () => {
  for (const random of seeded(50)) {
    const magic = Buffer.from(random.pick(['1f8b08', '28b52ffd', '502a4d18']), 'hex');
    const bytes = Buffer.concat([magic, random.bytes(random.between(4, 2000))]);
    try {
      await unpack(bytes);
    } catch (error) {
      assert.ok(error instanceof ImgstoreError, `seed ${random.seed}: ${error}`);
      continue;
    }
    assert.fail(`seed ${random.seed} was read`);
  }
});

test('a bomb is stopped at its limit, and not read further', async () => {
  const zeros = Buffer.alloc(64 * MiB);
  const many = Buffer.concat(Array.from({ length: 40 }, () => zstdCompressSync(zeros)));
  for (const bomb of [gzipSync(zeros), many]) {
    let readBytes = 0;
    const counted = (async function* () {
      for await (const piece of inPieces(bomb, 512)) {
        readBytes += piece.length;
        yield piece;
      }
    })();
    let seenBytes = 0;
    const work = async () => {
      const pieces = decompress(counted, { label, sizeMaxBytes: 3 * MiB });
      for await (const piece of pieces) seenBytes += piece.length;
    };
    await assertFault(work, 'LIMIT', label);
    assert.ok(seenBytes <= 3 * MiB, `${seenBytes} bytes were handed out`);
    assert.ok(readBytes < bomb.length / 3, `${readBytes} of ${bomb.length} bytes were read`);
  }
});

test('a layer of exactly the limit is read', async () => {
  for (const packed of [gzipSync(Buffer.alloc(MiB)), Buffer.alloc(MiB)]) {
    const pieces = decompress(inPieces(packed, 64 * KiB), { label, sizeMaxBytes: MiB });
    assert.equal((await collect(pieces)).length, MiB);
  }
});

test('windows, dictionaries and compressions that are not handled are named', async () => {
  const window256MiB = Buffer.from('28b52ffd0090010000', 'hex');
  await assertFault(unpack(window256MiB), 'LIMIT', label, '128 MiB');
  const single256MiB = Buffer.from('28b52ffda0000000100100000000', 'hex');
  await assertFault(unpack(single256MiB), 'LIMIT', label, '128 MiB');
  const dictionary = Buffer.from('28b52ffd012007010000', 'hex');
  await assertFault(unpack(dictionary), 'UNSUPPORTED', label, 'dictionary');
  await assertFault(unpack(Buffer.from('BZh91AY&SY')), 'UNSUPPORTED', label, 'gzip');
  await assertFault(unpack(Buffer.from('fd377a585a000004', 'hex')), 'UNSUPPORTED', label);
});

test('a consumer that stops ends the input, in whatever state', async () => {
  const plain = text(new Random(3), 4 * MiB);
  for (const packed of [plain, gzipSync(plain), zstdCompressSync(plain)]) {
    for (const take of [0, 1, 3]) {
      let closed = false;
      const input = (async function* () {
        try {
          yield* inPieces(packed, 16 * KiB);
        } finally {
          closed = true;
        }
      })();
      const pieces = decompress(input, roomy);
      for (let i = 0; i < take; i++) await pieces.next();
      await pieces.return();
      // Nothing was started, so there is nothing to end.
      assert.equal(closed, take > 0);
    }
  }
});

test('a consumer that waits holds the input back', async () => {
  const packed = gzipSync(new Random(5).bytes(12 * MiB), { level: 1 });
  let readBytes = 0;
  const counted = (async function* () {
    for await (const piece of inPieces(packed, 256 * KiB)) {
      readBytes += piece.length;
      yield piece;
    }
  })();
  const pieces = decompress(counted, roomy);
  await pieces.next();
  await sleep(300);
  await pieces.return();
  assert.ok(readBytes <= 4 * MiB, `${readBytes} bytes were read ahead`);
});

test('what the input throws comes through as it is', async () => {
  const packed = gzipSync(new Random(5).bytes(2 * MiB));
  const lost = new Error('the disk is gone');
  for (const whole of [0, 1 * MiB, packed.length]) {
    const input = (async function* () {
      yield* inPieces(packed.subarray(0, whole), 64 * KiB);
      throw lost;
    })();
    await assert.rejects(collect(decompress(input, roomy)), lost);
  }
});
