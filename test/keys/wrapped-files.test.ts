import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { createDomain, currentDomainFile, rotateDomain } from '../../src/keys/domain-files.ts';
import { describeOwnerKey, generateOwnerKey, importOwnerKey } from '../../src/keys/owner-files.ts';
import { ownerKeys } from '../../src/keys/owner-keys.ts';
import { beginRotation, finishRotation } from '../../src/keys/rotation.ts';
import { describeSalts, findDedupSalt, loadDedupSalt } from '../../src/keys/salts.ts';
import { LocalKms } from '../support/local-kms.ts';
import { rejectsWith, type TestKeys, testKeys, useEnvironment } from './support.ts';

let kms: LocalKms;
let keyArn: string;

before(async () => {
  kms = await LocalKms.start();
});
after(() => kms[Symbol.asyncDispose]());
beforeEach(() => {
  useEnvironment(kms.environment());
  keyArn = kms.addKey('images');
  kms.requests.length = 0;
});
afterEach(() => {
  kms.fault = () => undefined;
});

function operations(): string[] {
  return kms.requests.splice(0).map(({ operation }) => operation);
}

function allFiles({ directory }: TestKeys): string {
  const names = readdirSync(directory, { recursive: true, withFileTypes: true });
  const files = names.filter(entry => entry.isFile());
  return files
    .map(({ parentPath, name }) => readFileSync(`${parentPath}/${name}`, 'latin1'))
    .join();
}

test('a wrapped owner key: no secret on the disk, opened once for each who opens', async t => {
  const source = testKeys(t);
  const made = await generateOwnerKey({ ...source, kmsKey: 'alias/images' });
  assert.equal(made.kmsKey, keyArn);
  assert.deepEqual(operations(), ['GenerateDataKey', 'Decrypt']);
  assert.deepEqual(await describeOwnerKey(source), made);
  assert.deepEqual(operations(), [], 'showing a key asks nobody');

  const keys = ownerKeys({ ...source, create: false });
  const key = await keys.current();
  assert.equal(key.id, made.id);
  assert.doesNotMatch(allFiles(source), /^secret /m);
  assert.ok(!allFiles(source).includes(key.bytes.toString('hex')));
  assert.ok(!allFiles(source).includes(key.bytes.toString('base64')));
  await Promise.all(Array.from({ length: 9 }, () => keys.find(made.id)));
  assert.deepEqual(operations(), ['Decrypt']);
  assert.equal(await keys.find('0'.repeat(32)), undefined);
  assert.deepEqual(operations(), [], 'a key of another id need not be opened');
  await ownerKeys({ ...source, create: false }).current();
  assert.deepEqual(operations(), ['Decrypt']);
});

test('a failure is not kept: the next call opens it', async t => {
  const source = testKeys(t);
  await generateOwnerKey({ ...source, kmsKey: keyArn });
  const keys = ownerKeys({ ...source, create: false });
  kms.setState(keyArn, 'Disabled');
  const path = source.path('owner.key');
  await rejectsWith(keys.current(), 'KEY', new RegExp(`${path} with KMS key ${keyArn}.*disabled`));
  kms.setState(keyArn, 'Enabled');
  await keys.current();
});

test('salts that a push makes are wrapped as the owner key is', async t => {
  const source = testKeys(t);
  await generateOwnerKey({ ...source, kmsKey: keyArn });
  const salts = [await loadDedupSalt(source), await loadDedupSalt({ ...source, domain: 'a' })];
  assert.doesNotMatch(allFiles(source), /^secret /m);
  const contexts = kms.requests.map(({ input }) => JSON.stringify(input['EncryptionContext']));
  assert.equal(new Set(contexts).size, 3);
  assert.match(contexts.join(), /"kind":"imgstore domain-secret","domain":"a"/);
  for (const salt of salts) {
    const again = await loadDedupSalt({ ...source, domain: salt.domain });
    assert.deepEqual(again.bytes, salt.bytes);
    const found = await findDedupSalt(source, { saltId: salt.id, saltDomain: salt.domain });
    assert.deepEqual(found.bytes, salt.bytes);
  }
  const shown = await describeSalts(source);
  assert.deepEqual(
    shown.map(({ kmsKey }) => kmsKey),
    [keyArn, keyArn],
  );
  kms.setState(keyArn, 'Disabled');
  const [byDefault, named] = await describeSalts(source);
  assert.equal(byDefault?.saltId, salts[0]!.id);
  assert.equal(named?.saltId, undefined);
  assert.match(named?.problem ?? '', /disabled/);
});

test('a domain of a KMS key keeps to it when it is rotated', async t => {
  const source = testKeys(t);
  const options = { ...source, domain: 'a', epochDays: 7 };
  await createDomain({ ...options, kmsKey: keyArn });
  const first = await loadDedupSalt(options);
  const other = kms.addKey();
  for (const kmsKey of [undefined, other, undefined]) await rotateDomain({ ...options, kmsKey });
  const { file } = (await currentDomainFile(source, 'a'))!;
  assert.ok('keyArn' in file.held && file.held.keyArn === other);
  const { id: saltId, epoch: saltEpoch } = first;
  await findDedupSalt(source, { saltId, saltDomain: 'a', saltEpoch });
  await rejectsWith(
    findDedupSalt(source, { saltId, saltDomain: 'a', saltEpoch: 1 }),
    'KEY',
    /Cannot find dedup salt/,
  );
});

test('what KMS wrapped for one purpose does not open for another', async t => {
  const source = testKeys(t);
  await generateOwnerKey({ ...source, kmsKey: keyArn });
  await loadDedupSalt({ ...source, domain: 'a' });
  const owner = readFileSync(source.path('owner.key'), 'latin1');
  const wrapped = /^wrapped .*$/m;
  const path = source.path('domains', 'a.salt');
  const a = readFileSync(path, 'latin1');
  writeFileSync(path, a.replace(wrapped, wrapped.exec(owner)![0]));
  await rejectsWith(loadDedupSalt({ ...source, domain: 'a' }), 'KEY', /not for this purpose/);
  const b = a.replace('domain a\n', 'domain b\n');
  writeFileSync(source.path('domains', 'b.salt'), b, { mode: 0o600 });
  await rejectsWith(loadDedupSalt({ ...source, domain: 'b' }), 'KEY', /not for this purpose/);

  const second = testKeys(t);
  await generateOwnerKey({ ...second, kmsKey: keyArn });
  const theirs = readFileSync(second.path('owner.key'), 'latin1');
  writeFileSync(source.path('owner.key'), owner.replace(wrapped, wrapped.exec(theirs)![0]));
  const current = ownerKeys({ ...source, create: false }).current();
  await rejectsWith(current, 'KEY', /its id is [0-9a-f]{32}, not [0-9a-f]{32}.*damaged/);
});

test("another owner's wrapped key is imported as it is, and opens with KMS's leave", async t => {
  const source = testKeys(t);
  const other = testKeys(t);
  const { id } = await generateOwnerKey({ ...other, kmsKey: keyArn });
  operations();
  const imported = await importOwnerKey(source, other.path('owner.key'));
  assert.equal(imported.kmsKey, keyArn);
  assert.deepEqual(operations(), []);
  const keys = ownerKeys({ ...source, create: false });
  assert.equal((await keys.find(id))?.id, id);
  useEnvironment(kms.environmentOfUser(() => false));
  const denied = ownerKeys({ ...source, create: false }).find(id);
  await rejectsWith(denied, 'KEY', /access denied.*kms:Decrypt/);
});

test('a rotation keeps to KMS, or moves to it', async t => {
  const source = testKeys(t);
  await generateOwnerKey(source);
  const moved = await beginRotation({ ...source, kmsKey: 'alias/images' });
  await finishRotation(source, moved);
  const kept = await beginRotation(source);
  assert.equal(kept.from.id, moved.to.id);
  await finishRotation(source, kept);
  assert.equal((await describeOwnerKey(source))?.kmsKey, keyArn);
  assert.match(
    readFileSync(source.path('owners', `${moved.to.id}.key`), 'latin1'),
    /\nkms-key arn/,
  );
});

test('a key that cannot be opened does not come into use', async t => {
  const source = testKeys(t);
  useEnvironment(kms.environmentOfUser(operation => operation === 'GenerateDataKey'));
  const generation = generateOwnerKey({ ...source, kmsKey: keyArn });
  await rejectsWith(generation, 'KEY', /just made.*access denied/);
  assert.equal(await describeOwnerKey(source), undefined);
  const { id } = await generateOwnerKey(source);
  await rejectsWith(beginRotation({ ...source, kmsKey: keyArn }), 'KEY', /access denied/);
  assert.equal((await ownerKeys({ ...source, create: false }).current()).id, id);
  assert.deepEqual(readdirSync(source.directory), ['owner.key']);

  // It could be opened when it was made, and cannot be any more: the rotation waits.
  useEnvironment(kms.environment());
  let requests = 0;
  kms.fault = () =>
    ++requests > 2 ? { do: 'answer', status: 400, code: 'DisabledException' } : undefined;
  await rejectsWith(beginRotation({ ...source, kmsKey: keyArn }), 'KEY', /disabled/);
  assert.equal((await ownerKeys({ ...source, create: false }).current()).id, id);
  kms.fault = () => undefined;
  const rotation = await beginRotation(source);
  assert.equal(rotation.continued, true);
  assert.equal((await ownerKeys({ ...source, create: false }).current()).id, rotation.to.id);
});
