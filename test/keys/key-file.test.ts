import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ImgstoreError } from '../../src/base/errors.ts';
import { formatKeyFile, isWrapped, type KeyFile, parseKeyFile } from '../../src/keys/key-file.ts';
import { DedupSalt, type DomainSecret, OwnerKey } from '../../src/keys/keys.ts';
import { seeded } from '../support/random.ts';

const golden = join(import.meta.dirname, '..', '..', 'fixtures', 'golden');
const created = new Date('2026-01-02T03:04:05.678Z');
const bytes = Buffer.from(Array.from({ length: 32 }, (_, i) => i));
const owner = new OwnerKey(bytes);
const ownerFile: KeyFile<'owner'> = { kind: 'owner', id: owner.id, created, held: owner };
const salt = new DedupSalt(bytes);
const saltFile: KeyFile<'salt'> = { kind: 'salt', id: salt.id, created, held: salt };

function plainOf({ held }: KeyFile): OwnerKey | DedupSalt | DomainSecret {
  assert.ok(!isWrapped(held));
  return held;
}

test('golden files: the owner key and the dedup salt, version 1', () => {
  const owner = readFileSync(join(golden, 'key-v1-owner.key'), 'utf8');
  assert.equal(formatKeyFile(ownerFile), owner);
  const parsed = parseKeyFile('owner', owner, 'owner.key');
  assert.deepEqual(plainOf(parsed).bytes, bytes);
  assert.deepEqual(parsed.created, created);

  const salt = readFileSync(join(golden, 'key-v1-dedup.salt'), 'utf8');
  assert.equal(formatKeyFile(saltFile), salt);
  assert.deepEqual(plainOf(parseKeyFile('salt', salt, 'dedup.salt')).bytes, bytes);
});

const text = formatKeyFile(ownerFile);
const secretText = bytes.toString('hex');

const wrong: readonly [what: string, text: string, message: RegExp][] = [
  ['nothing', '', /first line/],
  ['the other kind', text.replace('owner-key', 'dedup-salt'), /first line/],
  ['a newer version', text.replace('key 1\n', 'key 2\n'), /another version/],
  ['no end of line', text.slice(0, -1), /damaged/],
  ['a line more', `${text}\n`, /damaged/],
  ['line ends of another system', text.replaceAll('\n', '\r\n'), /another version/],
  ['one line only', 'imgstore owner-key 1', /another version|damaged/],
  ['a short secret', text.replace(secretText, secretText.slice(2)), /damaged/],
  ['a changed secret', text.replace(secretText, `ff${secretText.slice(2)}`), /damaged/],
  ['a changed id', text.replace(/id ./, 'id f'), /damaged/],
  ['an impossible time', text.replace('2026-01-02', '2026-19-02'), /damaged/],
];
for (const [what, bad, message] of wrong) {
  test(`refused: ${what}`, () => {
    assert.throws(
      () => parseKeyFile('owner', bad, '/k/owner.key'),
      (error: unknown) =>
        error instanceof ImgstoreError &&
        error.code === 'KEY' &&
        message.test(error.message) &&
        error.message.includes('/k/owner.key'),
    );
  });
}

test('a damaged file is refused as KEY and its secret stays out of the message', () => {
  for (const random of seeded(500)) {
    const damaged = Buffer.from(text, 'latin1');
    const at = random.below(damaged.length);
    damaged[at] = damaged[at]! ^ random.between(1, 255);
    try {
      const key = plainOf(parseKeyFile('owner', damaged.toString('latin1'), 'owner.key'));
      // Only the time is not covered by the id.
      assert.deepEqual(key.bytes, bytes, `seed ${random.seed}`);
    } catch (error) {
      assert.ok(error instanceof ImgstoreError && error.code === 'KEY', `seed ${random.seed}`);
      const shown = `${error.message} ${error.hint} ${error.stack}`;
      assert.ok(!shown.includes(secretText.slice(8, 40)), `seed ${random.seed}`);
    }
  }
});
