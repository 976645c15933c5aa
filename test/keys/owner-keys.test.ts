import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ImgstoreError } from '../../src/base/errors.ts';
import { generateOwnerKey, importOwnerKey } from '../../src/keys/owner-files.ts';
import { keyNeeded, ownerKeys } from '../../src/keys/owner-keys.ts';
import { loadDedupSalt } from '../../src/keys/salts.ts';
import { runChecked } from '../support/processes.ts';
import { now, rejectsWith, testKeys } from './support.ts';

test('the first push makes a key, for its owner alone, and finds it again', async t => {
  const source = testKeys(t);
  const first = await ownerKeys({ ...source, create: true }).current();
  assert.equal(statSync(source.directory).mode & 0o777, 0o700);
  assert.deepEqual(readdirSync(source.directory), ['owner.key']);
  assert.equal(statSync(source.path('owner.key')).mode & 0o777, 0o600);
  const again = await ownerKeys({ ...source, create: false }).current();
  assert.deepEqual(again.bytes, first.bytes);
});

test('a reader makes nothing: without a key it says where one belongs', async t => {
  const source = testKeys(t);
  const keys = ownerKeys({ ...source, create: false });
  await rejectsWith(keys.current(), 'KEY', /there is no .*owner\.key\. Copy the .*IMGSTORE_KEY/);
  assert.equal(await keys.find('0'.repeat(32)), undefined);
  assert.deepEqual(readdirSync(join(source.directory, '..', '..')), []);
});

test('a key is found by its id wherever it is, and another is not', async t => {
  const alice = testKeys(t);
  const bob = testKeys(t);
  const fromEnv = { IMGSTORE_KEY: 'Aa'.repeat(32) };
  const [hers, his] = await Promise.all([generateOwnerKey(alice), generateOwnerKey(bob)]);
  const keys = ownerKeys({ ...alice, env: fromEnv, create: false });
  const variable = await keys.current();
  assert.deepEqual(variable.bytes, Buffer.alloc(32, 0xaa));
  assert.equal((await keys.find(hers.id))?.id, hers.id, 'owner.key beside IMGSTORE_KEY');
  assert.equal((await keys.find(variable.id))?.id, variable.id);
  assert.equal(await keys.find(his.id), undefined);
  // A running daemon sees keys that come.
  const { path } = await importOwnerKey(alice, bob.path('owner.key'));
  assert.equal(path, alice.path('owners', `${his.id}.key`));
  const found = await keys.find(his.id);
  assert.deepEqual(found?.bytes, (await ownerKeys({ ...bob, create: false }).current()).bytes);
});

test('a file of another id than its name is refused, and so is a damaged one', async t => {
  const source = testKeys(t);
  const other = testKeys(t);
  const { id } = await generateOwnerKey(other);
  await importOwnerKey(source, other.path('owner.key'));
  const wrongId = 'f'.repeat(32);
  const keys = ownerKeys({ ...source, create: false });
  renameSync(source.path('owners', `${id}.key`), source.path('owners', `${wrongId}.key`));
  await rejectsWith(keys.find(wrongId), 'KEY', new RegExp(`${wrongId}\\.key: its id is ${id}`));
  writeFileSync(source.path('owners', `${wrongId}.key`), 'imgstore owner-key 1\n');
  await rejectsWith(keys.find(wrongId), 'KEY', /damaged/);
});

test('what needs a key that is not here names its id and where it belongs', () => {
  const { code, message, hint } = keyNeeded('Cannot open team/app:1.0', 'ab'.repeat(16));
  assert.equal(code, 'KEY');
  assert.equal(
    message,
    `Cannot open team/app:1.0: it needs owner key ${'ab'.repeat(16)}, which is not here`,
  );
  assert.match(hint ?? '', new RegExp(`keys/owners/${'ab'.repeat(16)}\\.key.*IMGSTORE_KEY`));
});

test('the environment overrides the file, and nothing is written', async t => {
  const source = testKeys(t, { IMGSTORE_KEY: 'Aa'.repeat(32) });
  const key = await ownerKeys({ ...source, create: true }).current();
  assert.deepEqual(key.bytes, Buffer.alloc(32, 0xaa));
  assert.deepEqual(readdirSync(join(source.directory, '..', '..')), []);
});

for (const value of ['', 'ab', 'zz'.repeat(32), `${'ab'.repeat(32)}\n`]) {
  test(`IMGSTORE_KEY of ${JSON.stringify(value)} is refused without being shown`, async t => {
    const keys = ownerKeys({ ...testKeys(t, { IMGSTORE_KEY: value }), create: true });
    for (const work of [keys.current(), keys.find('0'.repeat(32))]) {
      await assert.rejects(work, (error: unknown) => {
        assert.ok(error instanceof ImgstoreError && error.code === 'KEY');
        if (value !== '') assert.ok(!error.message.includes(value));
        return true;
      });
    }
  });
}

for (const mode of [0o640, 0o604, 0o620, 0o610]) {
  test(`a key file of mode ${mode.toString(8)} is refused`, async t => {
    const source = testKeys(t);
    await generateOwnerKey(source);
    const path = source.path('owner.key');
    chmodSync(path, mode);
    const current = ownerKeys({ ...source, create: true }).current();
    await rejectsWith(current, 'KEY', new RegExp(`mode 0${mode.toString(8)}.*chmod 600 ${path}`));
  });
}

test('what is not a regular file is refused', async t => {
  const source = testKeys(t);
  mkdirSync(source.path('owner.key'), { recursive: true });
  const current = ownerKeys({ ...source, create: true }).current();
  await rejectsWith(current, 'KEY', /not a regular file/);
});

test('a folder that cannot be made is an IO error that names it', async t => {
  const source = testKeys(t);
  writeFileSync(join(source.directory, '..'), 'a file in the way');
  const current = ownerKeys({ ...source, create: true }).current();
  await rejectsWith(current, 'IO', /owner key|owner\.key/);
});

test('many callers of one process at once agree', async t => {
  const source = testKeys(t);
  const load = async () => {
    const owner = await ownerKeys({ ...source, create: true }).current();
    const salt = await loadDedupSalt(source);
    return `${owner.id} ${salt.id} ${(await loadDedupSalt({ ...source, domain: 'a' })).id}`;
  };
  const ids = await Promise.all(Array.from({ length: 20 }, load));
  assert.equal(new Set(ids).size, 1);
  const names = ['dedup.salt', 'domains', 'owner.key'];
  assert.deepEqual(readdirSync(source.directory).sort(), names, 'no temporary file is left');
  assert.deepEqual(readdirSync(source.path('domains')), ['a.salt']);
});

test('several processes at once agree', async t => {
  const { directory } = testKeys(t);
  const room = join(import.meta.dirname, '..', '..', 'src', 'keys');
  const script = `
    const { ownerKeys } = await import(process.argv[1] + '/owner-keys.ts');
    const { loadDedupSalt } = await import(process.argv[1] + '/salts.ts');
    const source = { directory: process.argv[2], env: {}, create: true };
    const secrets = await Promise.all([
      ownerKeys(source).current(), loadDedupSalt(source), loadDedupSalt({ ...source, domain: 'a' }),
    ]);
    process.stdout.write(secrets.map(({ id }) => id).join(' '));`;
  const ids = await Promise.all(
    Array.from({ length: 4 }, async () => {
      const arguments_ = ['--input-type=module', '-e', script, room, directory];
      return (await runChecked(process.execPath, arguments_)).stdout;
    }),
  );
  assert.match(ids[0]!, /^[0-9a-f]{32} [0-9a-f]{32} [0-9a-f]{32}$/);
  assert.equal(new Set(ids).size, 1, ids.join('\n'));
  assert.deepEqual(readdirSync(directory).sort(), ['dedup.salt', 'domains', 'owner.key']);
});

test('keys are made when the clock says', async t => {
  const source = testKeys(t);
  await ownerKeys({ ...source, create: true }).current();
  const { created } = await generateOwnerKey(testKeys(t));
  assert.deepEqual(created, now());
});
