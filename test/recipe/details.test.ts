import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ImgstoreError } from '../../src/base/errors.ts';
import { decodeDetails, encodeDetails } from '../../src/recipe/details.ts';
import { fixedRecipe } from '../support/recipes.ts';

test('equal details are equal bytes, whatever the order of their fields', () => {
  const { details } = fixedRecipe();
  const reversed = Object.fromEntries(Object.entries(details).reverse()) as typeof details;
  assert.deepEqual(encodeDetails(reversed), encodeDetails(details));
  assert.deepEqual(decodeDetails(encodeDetails(details)), details);
});

test('the domain and epoch of a salt stand at the end, and only where there are any', () => {
  const { details } = fixedRecipe();
  const without = encodeDetails(details).toString();
  const named = { ...details, saltDomain: 'team-a', saltEpoch: 0 };
  const text = encodeDetails(named).toString();
  assert.equal(text, `${without.slice(0, -1)},"saltDomain":"team-a","saltEpoch":0}`);
  assert.deepEqual(decodeDetails(Buffer.from(text)), named);
});

test('the text of a config comes back to the byte', () => {
  const { details } = fixedRecipe();
  const configText = '\ufeff{\r\n\t"a" : "\u2028\u0000\ud800 \\u00e9 é e\u0301"}\n\n';
  const { configText: back } = decodeDetails(encodeDetails({ ...details, configText }));
  assert.equal(back, configText);
});

test('fields of a newer writer are left out', () => {
  const { details } = fixedRecipe();
  const newer = Buffer.from(JSON.stringify({ ...details, colour: 'blue', __proto__: null }));
  assert.deepEqual(decodeDetails(newer), details);
});

const wrong: readonly object[] = [
  { kind: 'tar' },
  { kind: undefined },
  { pipeline: undefined },
  { saltId: 7 },
  { saltDomain: '' },
  { saltDomain: '../owner' },
  { saltDomain: 'A' },
  { saltDomain: 'a'.repeat(64) },
  { saltDomain: ['a'] },
  { saltEpoch: -1 },
  { saltEpoch: 1.5 },
  { saltEpoch: '7' },
  { configText: ['a'] },
  { inodeCount: -1 },
  { inodeCount: 0.5 },
  { contentBytes: 2 ** 53 },
  { contentBytes: '1' },
  { manifestDigest: null },
  { platform: 'linux' },
  { platform: [] },
  { platform: { os: 'linux' } },
  { platform: { os: 'linux', architecture: 'arm', variant: 7 } },
];
for (const change of wrong) {
  test(`refused: ${JSON.stringify(change)}`, () => {
    const bytes = Buffer.from(JSON.stringify({ ...fixedRecipe().details, ...change }));
    assert.throws(
      () => decodeDetails(bytes),
      (error: unknown) => error instanceof ImgstoreError && error.code === 'CORRUPT',
    );
  });
}
