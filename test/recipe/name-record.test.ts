import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { hkdf } from '@noble/hashes/hkdf.js';
import { hmac } from '@noble/hashes/hmac.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { parseRecipeId } from '../../src/base/digest.ts';
import { type ErrorCode, ImgstoreError } from '../../src/base/errors.ts';
import { type ImageName, parseImageName } from '../../src/recipe/name.ts';
import {
  encodeNameRecord,
  parseNameRecord,
  verifyNameRecord,
} from '../../src/recipe/name-record.ts';
import { seeded } from '../support/random.ts';
import { otherKey, ownerKey } from '../support/recipes.ts';

const name = parseImageName('registry.example:5000/team/app:1.0');
const recipeId = parseRecipeId('12'.repeat(32));
const pushed = '2026-01-02T03:04:05.678Z';
const bytes = encodeNameRecord(name, { recipeId, pushed }, ownerKey);

function open(record: Buffer, as: ImageName = name): unknown {
  const parsed = parseNameRecord(record, as);
  verifyNameRecord(parsed, as, ownerKey);
  return parsed;
}

function throwsWith(work: () => unknown, code: ErrorCode, text: RegExp): void {
  assert.throws(
    work,
    (error: unknown) =>
      error instanceof ImgstoreError && error.code === code && text.test(error.message),
  );
}

test('golden bytes: version 1, and what the mac is made of', () => {
  const file = join(import.meta.dirname, '..', '..', 'fixtures', 'golden', 'name-v1.json');
  assert.equal(bytes.toString(), readFileSync(file, 'utf8'));
  const label = 'imgstore name record 1';
  const subkey = hkdf(sha256, ownerKey.bytes, undefined, Buffer.from(label), 32);
  const lines = `${label}\nregistry.example:5000/team/app\n1.0\n${recipeId}\n2026-01-02T03:04:05.678Z\n${ownerKey.id}`;
  const mac = Buffer.from(hmac(sha256, subkey, Buffer.from(lines))).toString('hex');
  assert.deepEqual(open(bytes), { recipeId, pushed, keyId: ownerKey.id, mac });
});

test('the record of one name says nothing about another name or tag', () => {
  for (const other of ['registry.example:5000/team/app:1.1', 'app:1.0', 'other/app:1.0']) {
    throwsWith(() => open(bytes, parseImageName(other)), 'CORRUPT', /made for another name/);
  }
});

test("another owner's record is told apart by its key", () => {
  const record = parseNameRecord(encodeNameRecord(name, { recipeId, pushed }, otherKey), name);
  assert.equal(record.keyId, otherKey.id);
  const both = new RegExp(`${otherKey.id}.*${ownerKey.id}`);
  throwsWith(() => verifyNameRecord(record, name, ownerKey), 'KEY', both);
});

test('whoever changes a field without the key is found out', () => {
  const fields = JSON.parse(bytes.toString()) as object;
  const changes: readonly object[] = [
    { recipe: '13'.repeat(32) },
    { pushed: '2026-01-02T03:04:05.679Z' },
    { mac: '00'.repeat(32) },
  ];
  for (const change of changes) {
    const forged = Buffer.from(JSON.stringify({ ...fields, ...change }));
    throwsWith(() => open(forged), 'CORRUPT', /changed/);
  }
  const claimed = encodeNameRecord(name, { recipeId, pushed }, otherKey).toString();
  const forged = Buffer.from(claimed.replace(otherKey.id, ownerKey.id));
  throwsWith(() => open(forged), 'CORRUPT', /changed/);
});

test('what is not a record of this version', () => {
  const text = bytes.toString();
  throwsWith(
    () => open(Buffer.from(text.replace('"version":1', '"version":2'))),
    'UNSUPPORTED',
    /version 2/,
  );
  throwsWith(() => open(Buffer.alloc(65537, 32)), 'LIMIT', /65537/);
  const texts = ['', 'null', '7', '[]', '{}', '"x"', text.slice(0, -3), '['.repeat(60000)];
  const changed = [
    text.replace(recipeId, recipeId.slice(1)),
    text.replace('12121212', '1212121G'),
    text.replace('2026-01-02', '2026-02-31'),
    text.replace('.678Z', '.678+00:00'),
    text.replace(/"mac":"../, '"mac":"'),
    text.replace(/"keyId":"../, '"keyId":"'),
    text.replace('"version":1', '"version":"1"'),
    text.replace(/"recipe":"\w+"/, '"recipe":["x"]'),
  ];
  for (const bad of [...texts, ...changed]) {
    throwsWith(() => open(Buffer.from(bad)), 'CORRUPT', /damaged/);
  }
});

test('random damage never goes unnoticed', () => {
  for (const random of seeded(3000)) {
    const damaged = Buffer.from(bytes);
    const at = random.below(damaged.length - 1);
    damaged[at] = damaged[at]! ^ random.between(1, 255);
    assert.throws(
      () => open(damaged),
      (error: unknown) => error instanceof ImgstoreError,
      `seed ${random.seed}`,
    );
  }
});
