import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ImgstoreError } from '../../src/base/errors.ts';
import { formatKeyFile, isWrapped, type KeyFile, parseKeyFile } from '../../src/keys/key-file.ts';
import { DedupSalt, DomainSecret, OwnerKey } from '../../src/keys/keys.ts';
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

const domainSecret = new DomainSecret(bytes);
const domainFile: KeyFile<'domain'> = {
  kind: 'domain',
  id: domainSecret.id,
  created,
  domain: { name: 'team-a', epochDays: 7 },
  held: domainSecret,
};
const wrappedFile: KeyFile<'owner'> = {
  kind: 'owner',
  id: owner.id,
  created,
  held: {
    keyArn: 'arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab',
    wrapped: Buffer.from(Array.from({ length: 184 }, (_, i) => 255 - i)),
  },
};

test("golden files: a domain's secret and a wrapped key, version 1", () => {
  const domain = readFileSync(join(golden, 'key-v1-domain.salt'), 'utf8');
  assert.equal(formatKeyFile(domainFile), domain);
  assert.deepEqual(parseKeyFile('domain', domain, 'team-a.salt'), domainFile);
  assert.equal(domainSecret.salt('team-a', 2922).id, '5fe97905e95c9d06ac0cd6b4e3b073ea');

  const wrapped = readFileSync(join(golden, 'key-v1-wrapped.key'), 'utf8');
  assert.equal(formatKeyFile(wrappedFile), wrapped);
  assert.deepEqual(parseKeyFile('owner', wrapped, 'owner.key'), wrappedFile);
});

test('a domain without epochs has a line less', () => {
  const domain = { name: 'team-a', epochDays: undefined };
  const text = formatKeyFile({ ...domainFile, domain });
  assert.equal(text, formatKeyFile(domainFile).replace('epoch-days 7\n', ''));
  assert.deepEqual(parseKeyFile('domain', text, 'team-a.salt').domain, domain);
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

const domainText = formatKeyFile(domainFile);
const wrappedText = formatKeyFile(wrappedFile);
const arn = 'arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab';
const wrongOthers: readonly [what: string, kind: 'owner' | 'domain', text: string][] = [
  ['no domain', 'domain', domainText.replace('domain team-a\nepoch-days 7\n', '')],
  ['epochs without a domain', 'domain', domainText.replace('domain team-a\n', '')],
  ['a name that is a path', 'domain', domainText.replace('team-a', '../team-a')],
  ['a name that begins with "-"', 'domain', domainText.replace('team-a', '-a')],
  ['epochs of no days', 'domain', domainText.replace('days 7', 'days 0')],
  ['epochs of 3651 days', 'domain', domainText.replace('days 7', 'days 3651')],
  ['epochs of 07 days', 'domain', domainText.replace('days 7', 'days 07')],
  ['an owner key with a domain', 'owner', text.replace('secret', 'domain a\nsecret')],
  ['neither secret nor wrapped', 'owner', text.replace(/secret .*\n/, '')],
  ['both', 'owner', text + wrappedText.slice(wrappedText.indexOf('kms-key'))],
  ['no ARN', 'owner', wrappedText.replace(arn, 'alias/images')],
  ['an ARN of another service', 'owner', wrappedText.replace(':kms:', ':s3:')],
  ['an ARN with a path', 'owner', wrappedText.replace('key/1234', 'key/../1234')],
  ['no ciphertext', 'owner', wrappedText.replace(/wrapped .*\n/, 'wrapped \n')],
  ['two ways to write a ciphertext', 'owner', wrappedText.replace('==\n', '\n')],
  ['over 6144 bytes', 'owner', wrappedText.replace(/wrapped .*/, `wrapped ${'A'.repeat(8196)}`)],
];
for (const [what, kind, bad] of wrongOthers) {
  test(`refused: ${what}`, () => {
    assert.throws(() => parseKeyFile(kind, bad, '/k/file'), {
      code: 'KEY',
      message: /\/k\/file: it is damaged/,
    });
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
