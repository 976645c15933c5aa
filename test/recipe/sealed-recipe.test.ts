import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type RecipeId, sha256Hex } from '../../src/base/digest.ts';
import { type ErrorCode, ImgstoreError } from '../../src/base/errors.ts';
import { headerSizeBytes } from '../../src/recipe/format.ts';
import type { Recipe } from '../../src/recipe/recipe.ts';
import {
  decodeRecipe,
  encodeRecipe,
  publicChunkIds,
  recipeKeyId,
  rewrapRecipe,
} from '../../src/recipe/sealed-recipe.ts';
import { seeded } from '../support/random.ts';
import { fakeChunk, fixedRecipe, otherKey, ownerKey, randomRecipe } from '../support/recipes.ts';

function throwsWith(work: () => unknown, code: ErrorCode, text: RegExp, note?: string): void {
  assert.throws(
    work,
    (error: unknown) => {
      assert.ok(error instanceof ImgstoreError, `${note}: ${error}`);
      assert.equal(error.code, code, `${note}: ${error.message}`);
      assert.match(error.message, text);
      return true;
    },
    note,
  );
}

/** The id that an object has by its bytes, for an attacker who may choose both. */
function idOf(bytes: Buffer): RecipeId {
  return sha256Hex(bytes.subarray(headerSizeBytes)) as RecipeId;
}

test('random recipes come back as they were, and their chunk ids without a key', () => {
  for (const random of seeded(300)) {
    const recipe = randomRecipe(random);
    const { id, bytes } = encodeRecipe(recipe, ownerKey);
    assert.deepEqual(decodeRecipe(bytes, ownerKey, id), recipe, `seed ${random.seed}`);
    const used = recipe.segments.flatMap(s => (s.kind === 'chunk' ? [s.id] : []));
    assert.deepEqual(publicChunkIds(bytes, id), [...new Set(used)], `seed ${random.seed}`);
  }
});

test('an empty disk is a recipe', () => {
  const details = { kind: 'disk', pipeline: '', saltId: '' } as const;
  const empty: Recipe = { diskSizeBytes: 0, metadataSizeBytes: 0, segments: [], details };
  const { id, bytes } = encodeRecipe(empty, ownerKey);
  assert.deepEqual(decodeRecipe(bytes, ownerKey, id), empty);
});

test('the same recipe is the same bytes; another owner or another byte is another id', () => {
  const first = encodeRecipe(fixedRecipe(), ownerKey);
  assert.deepEqual(encodeRecipe(fixedRecipe(), ownerKey), first);
  assert.notEqual(encodeRecipe(fixedRecipe(), otherKey).id, first.id);
  const changed = fixedRecipe();
  changed.details.pipeline += '!';
  assert.notEqual(encodeRecipe(changed, ownerKey).id, first.id);
});

test('what is private does not show in the bytes', () => {
  const recipe = fixedRecipe();
  const { bytes } = encodeRecipe(recipe, ownerKey);
  const secrets = recipe.segments.flatMap(s => (s.kind === 'chunk' ? [s.key] : []));
  for (const secret of [...secrets, ownerKey.bytes, Buffer.from('linux'), Buffer.from('config')]) {
    assert.equal(bytes.indexOf(secret), -1);
  }
});

test('a large image takes 76 bytes a chunk', () => {
  const segments = Array.from({ length: 2000 }, (_, i) => fakeChunk(`${i}`, 1000));
  const recipe = { ...fixedRecipe(), diskSizeBytes: 2_000_000, segments };
  const fixed = encodeRecipe(
    { ...recipe, diskSizeBytes: 4096, segments: [fakeChunk('', 4096)] },
    ownerKey,
  );
  const { id, bytes } = encodeRecipe(recipe, ownerKey);
  assert.equal(bytes.length, fixed.bytes.length + 1999 * 76);
  assert.deepEqual(decodeRecipe(bytes, ownerKey, id), recipe);
});

test("another owner's key is told apart by id", () => {
  const { id, bytes } = encodeRecipe(fixedRecipe(), ownerKey);
  const both = new RegExp(`${ownerKey.id}.*${otherKey.id}`);
  throwsWith(() => decodeRecipe(bytes, otherKey, id), 'KEY', both);
  assert.equal(recipeKeyId(bytes), ownerKey.id);
});

test('a new owner key rewrites the header alone, under the same id', () => {
  const recipe = fixedRecipe();
  const { id, bytes } = encodeRecipe(recipe, ownerKey);
  const before = Buffer.from(bytes);
  const rotated = rewrapRecipe(bytes, { from: ownerKey, to: otherKey, expectedId: id });
  assert.deepEqual(bytes, before, 'the old object is left alone');
  assert.deepEqual(rotated.subarray(headerSizeBytes), bytes.subarray(headerSizeBytes));
  assert.equal(recipeKeyId(rotated), otherKey.id);
  assert.deepEqual(decodeRecipe(rotated, otherKey, id), recipe);
  throwsWith(() => decodeRecipe(rotated, ownerKey, id), 'KEY', /sealed for key/);
  const back = rewrapRecipe(rotated, { from: otherKey, to: ownerKey, expectedId: id });
  assert.deepEqual(back, bytes, 'wrapping has no chance in it');
});

test('the object of another recipe under this id is found out, with and without the key', () => {
  const { id } = encodeRecipe(fixedRecipe(), ownerKey);
  const other = fixedRecipe();
  other.details.pipeline = 'another';
  const { bytes } = encodeRecipe(other, ownerKey);
  throwsWith(() => decodeRecipe(bytes, ownerKey, id), 'CORRUPT', /its bytes have the id/);
  throwsWith(() => publicChunkIds(bytes, id), 'CORRUPT', /its bytes have the id/);
});

test('the header of another recipe of the same owner does not open this one', () => {
  const { id, bytes } = encodeRecipe(fixedRecipe(), ownerKey);
  const other = encodeRecipe(randomRecipe([...seeded(1)][0]!), ownerKey);
  other.bytes.copy(bytes, 0, 0, headerSizeBytes);
  throwsWith(() => decodeRecipe(bytes, ownerKey, id), 'CORRUPT', /header is damaged/);
});

test('a header that claims another key is found out by that key', () => {
  const { id, bytes } = encodeRecipe(fixedRecipe(), ownerKey);
  bytes.write(otherKey.id, 8, 'hex');
  throwsWith(() => decodeRecipe(bytes, otherKey, id), 'CORRUPT', /header is damaged/);
});

test('an attacker who may choose the id as well still cannot change what is inside', () => {
  const { bytes } = encodeRecipe(fixedRecipe(), ownerKey);
  const publicAndSealed = bytes.length - headerSizeBytes;
  for (const random of seeded(200)) {
    const forged = Buffer.from(bytes);
    const at = headerSizeBytes + random.below(publicAndSealed);
    forged[at] = forged[at]! ^ random.between(1, 255);
    throwsWith(() => decodeRecipe(forged, ownerKey, idOf(forged)), 'CORRUPT', /./, `${at}`);
  }
});

test('other formats and versions: what to do is said', () => {
  const { id, bytes } = encodeRecipe(fixedRecipe(), ownerKey);
  const newer = Buffer.from(bytes);
  newer.writeUInt16LE(2, 6);
  throwsWith(() => decodeRecipe(newer, ownerKey, id), 'UNSUPPORTED', /version 2.*reads 1/);
  throwsWith(() => recipeKeyId(newer), 'UNSUPPORTED', /version 2/);
  const other = Buffer.from(bytes);
  other.write('tar', 0);
  throwsWith(() => decodeRecipe(other, ownerKey, id), 'CORRUPT', /not a recipe/);
  throwsWith(() => recipeKeyId(Buffer.alloc(0)), 'CORRUPT', /not a recipe/);
});

test('mutated, cut and lengthened objects: an error of this program and nothing else', () => {
  const { id, bytes } = encodeRecipe(fixedRecipe(), ownerKey);
  for (const random of seeded(3000)) {
    const length = random.chance(0.5) ? bytes.length : random.below(bytes.length + 100);
    const mutated = Buffer.alloc(length);
    bytes.copy(mutated);
    for (let n = random.below(4); n > 0 && length > 0; n--) {
      mutated[random.below(Math.min(length, random.pick([140, length])))] = random.below(256);
    }
    if (mutated.equals(bytes)) continue;
    const chosenId = random.chance(0.5) ? id : idOf(mutated);
    const outcome = (work: () => unknown): void => {
      try {
        work();
      } catch (error) {
        assert.ok(error instanceof ImgstoreError, `seed ${random.seed}: ${error}`);
      }
    };
    assert.throws(() => decodeRecipe(mutated, ownerKey, chosenId), ImgstoreError);
    outcome(() => publicChunkIds(mutated, chosenId));
    outcome(() => recipeKeyId(mutated));
  }
});

test('a count of four thousand million allocates nothing', () => {
  const { bytes } = encodeRecipe(fixedRecipe(), ownerKey);
  for (const count of [0xffffffff, 0x80000000, 1000]) {
    const forged = Buffer.from(bytes);
    forged.writeUInt32LE(count, headerSizeBytes);
    forged.writeUInt32LE(0xffffffff, headerSizeBytes + 4);
    throwsWith(() => publicChunkIds(forged, idOf(forged)), 'CORRUPT', /does not fit/);
  }
});

test('fewer references than chunks are refused without a key', () => {
  const { bytes } = encodeRecipe(fixedRecipe(), ownerKey);
  bytes.writeUInt32LE(2, headerSizeBytes + 4);
  throwsWith(() => publicChunkIds(bytes, idOf(bytes)), 'CORRUPT', /does not fit/);
});

const bugs: readonly [what: string, spoil: (recipe: Recipe) => Recipe][] = [
  ['does not cover its disk', r => ({ ...r, diskSizeBytes: r.diskSizeBytes + 1 })],
  ['has metadata beyond its disk', r => ({ ...r, metadataSizeBytes: r.diskSizeBytes + 1 })],
  ['gives one chunk two keys', r => withLast(r, { key: Buffer.alloc(32) })],
  ['gives one chunk two sizes', r => withLast(r, { sealedSizeBytes: 9 })],
  ['has a short key', r => withLast(r, { id: '00'.repeat(32) as never, key: Buffer.alloc(31) })],
];
for (const [what, spoil] of bugs) {
  test(`a recipe that ${what} is a bug of who made it`, () => {
    assert.throws(() => encodeRecipe(spoil(fixedRecipe()), ownerKey), { name: 'AssertionError' });
  });
}

function withLast(recipe: Recipe, changes: object): Recipe {
  const last = { ...recipe.segments[0]!, ...changes };
  const diskSizeBytes = recipe.diskSizeBytes + last.plainSizeBytes;
  return { ...recipe, diskSizeBytes, segments: [...recipe.segments, last] };
}

test('a disk or details beyond the limits are refused', () => {
  const tooLarge = 16 * 2 ** 40 + 1;
  const zeros = [{ kind: 'zero', plainSizeBytes: tooLarge }] as const;
  const disk = { ...fixedRecipe(), diskSizeBytes: tooLarge, segments: zeros };
  throwsWith(() => encodeRecipe(disk, ownerKey), 'LIMIT', /disk/);
  const recipe = fixedRecipe();
  recipe.details.configText = '\u0001'.repeat(3 * 2 ** 20);
  throwsWith(() => encodeRecipe(recipe, ownerKey), 'LIMIT', /details/);
});
