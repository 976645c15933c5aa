/** Private parts that no writer makes: the owner's own key does not make them trusted. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ErrorCode, ImgstoreError } from '../../src/base/errors.ts';
import { decodePrivatePart, decodePublicPart } from '../../src/recipe/decode-body.ts';
import { encodeBody } from '../../src/recipe/encode-body.ts';
import { seeded } from '../support/random.ts';
import { fixedRecipe, randomRecipe } from '../support/recipes.ts';

// The fixed recipe has 3 chunks, 5 segments and 1 run of zeros; offsets as the document has them.
const rowsAt = 24;
const segmentsAt = rowsAt + 3 * 40;
const zeroRunsAt = segmentsAt + 5 * 4;
const detailsAt = zeroRunsAt + 8;

function parts(): { plain: Buffer; part: ReturnType<typeof decodePublicPart> } {
  const { publicPart, privatePart } = encodeBody(fixedRecipe());
  const body = Buffer.concat([publicPart, privatePart]);
  return { plain: privatePart, part: decodePublicPart(body) };
}

const attacks: readonly [string, ErrorCode, RegExp, (plain: Buffer) => Buffer][] = [
  ['a disk larger than its segments', 'CORRUPT', /add up/, p => put32(p, 7, 0)],
  ['a disk of 2^64 - 1 bytes', 'LIMIT', /disk/, p => p.fill(0xff, 0, 8)],
  ['metadata larger than the disk', 'CORRUPT', /metadata/, p => p.fill(0xff, 8, 16)],
  ['more segments than bytes', 'CORRUPT', /its length/, p => put32(p, 0xffffffff, 16)],
  ['fewer segments than references', 'CORRUPT', /its length/, fewerSegments],
  ['details of 4 GiB', 'LIMIT', /details/, p => put32(p, 0xffffffff, 20)],
  ['details a byte short', 'CORRUPT', /its length/, p => put32(p, p.readUInt32LE(20) - 1, 20)],
  ['a byte behind the end', 'CORRUPT', /its length/, p => Buffer.concat([p, Buffer.alloc(1)])],
  ['a byte less', 'CORRUPT', /its length/, p => p.subarray(0, -1)],
  ['an empty chunk', 'CORRUPT', /a chunk is/, p => put32(p, 0, rowsAt + 32)],
  ['a chunk over the limit', 'CORRUPT', /a chunk is/, p => put32(p, 1048577, rowsAt + 32)],
  ['an empty sealed chunk', 'CORRUPT', /a chunk is/, p => put32(p, 0, rowsAt + 36)],
  ['a sealed chunk over the limit', 'CORRUPT', /a chunk is/, p => put32(p, 2097152, rowsAt + 36)],
  ['a chunk that is not there', 'CORRUPT', /out of order/, chunkBehindTheLast],
  ['chunks out of order', 'CORRUPT', /out of order/, p => put32(p, 1, segmentsAt)],
  ['a chunk that no segment uses', 'CORRUPT', /states more/, p => put32(p, 0, segmentsAt + 16)],
  [
    'a run of zeros too many',
    'CORRUPT',
    /than it states/,
    p => p.fill(255, segmentsAt + 12, zeroRunsAt),
  ],
  ['a run of zeros too few', 'CORRUPT', /states more/, p => put32(p, 0, segmentsAt + 8)],
  ['an empty run of zeros', 'CORRUPT', /is empty/, p => p.fill(0, zeroRunsAt, detailsAt)],
  ['a run of 2^64 - 1 zeros', 'CORRUPT', /add up/, p => p.fill(0xff, zeroRunsAt, detailsAt)],
  ['sizes beyond the disk', 'CORRUPT', /add up/, p => put32(p, 6, rowsAt + 80 + 32)],
  ['details that are not JSON', 'CORRUPT', /not JSON/, p => p.fill('[', detailsAt)],
  ['details that are a number', 'CORRUPT', /wrong object/, p => p.fill('1', detailsAt)],
];

/** Chunks 0, 1, 2 and then 3: in order, and one too many. */
function chunkBehindTheLast(plain: Buffer): Buffer {
  return put32(put32(plain, 2, segmentsAt + 12), 3, segmentsAt + 16);
}

/** 3 segments for 4 references, with the details made longer so that the length fits. */
function fewerSegments(plain: Buffer): Buffer {
  put32(plain, 3, 16);
  return put32(plain, plain.readUInt32LE(20) + 2 * 4 + 2 * 8, 20);
}

function put32(plain: Buffer, value: number, at: number): Buffer {
  plain.writeUInt32LE(value, at);
  return plain;
}

for (const [what, code, message, attack] of attacks) {
  test(`refused: ${what}`, () => {
    const { plain, part } = parts();
    const before = Buffer.from(plain);
    const attacked = attack(plain);
    assert.ok(!attacked.equals(before));
    assert.throws(
      () => decodePrivatePart(attacked, part),
      (error: unknown) => {
        assert.ok(error instanceof ImgstoreError, String(error));
        assert.equal(error.code, code);
        assert.match(error.message, message);
        return true;
      },
    );
  });
}

test('the offsets of the attacks are right: without one the recipe comes back', () => {
  const { plain, part } = parts();
  assert.equal(plain.toString('utf8', detailsAt, detailsAt + 8), '{"kind":');
  assert.equal(plain.readUInt32LE(segmentsAt + 8), 0xffffffff);
  assert.deepEqual(decodePrivatePart(plain, part), fixedRecipe());
});

test('random damage of private parts: a recipe that adds up, or an error of this program', () => {
  for (const random of seeded(3000)) {
    const { publicPart, privatePart } = encodeBody(randomRecipe(random));
    const part = decodePublicPart(Buffer.concat([publicPart, privatePart]));
    for (let n = random.between(1, 3); n > 0; n--) {
      const area = Math.min(privatePart.length, random.pick([24, 200, privatePart.length]));
      privatePart[random.below(area)] = random.pick([0, 1, 0x7f, 0x80, 0xff, random.below(256)]);
    }
    try {
      const { segments, diskSizeBytes } = decodePrivatePart(privatePart, part);
      const sum = segments.reduce((total, segment) => total + segment.plainSizeBytes, 0);
      assert.equal(sum, diskSizeBytes, `seed ${random.seed}`);
    } catch (error) {
      assert.ok(error instanceof ImgstoreError, `seed ${random.seed}: ${error}`);
    }
  }
});
