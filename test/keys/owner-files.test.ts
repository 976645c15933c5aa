import assert from 'node:assert/strict';
import { chmodSync, copyFileSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { test } from 'node:test';
import {
  describeOwnerKey,
  generateOwnerKey,
  heldKeyIds,
  importOwnerKey,
} from '../../src/keys/owner-files.ts';
import { ownerKeys } from '../../src/keys/owner-keys.ts';
import { loadDedupSalt } from '../../src/keys/salts.ts';
import { rejectsWith, testKeys } from './support.ts';

test('generate makes a key once and never replaces it; what is shown of it is no secret', async t => {
  const source = testKeys(t);
  assert.equal(await describeOwnerKey(source), undefined);
  const made = await generateOwnerKey(source);
  const path = source.path('owner.key');
  const text = readFileSync(path, 'utf8');
  await rejectsWith(generateOwnerKey(source), 'BUSY', /already there.*key rotate/);
  assert.equal(readFileSync(path, 'utf8'), text);
  assert.deepEqual(readdirSync(source.directory), ['owner.key'], 'no temporary file is left');

  const shown = await describeOwnerKey(source);
  const created = source.now();
  assert.deepEqual(shown, { id: made.id, path, created, kmsKey: undefined });
  assert.deepEqual(shown, made);
  const { bytes } = await ownerKeys({ ...source, create: false }).current();
  assert.ok(!JSON.stringify(shown).includes(bytes.toString('hex')));
  const fromEnv = await describeOwnerKey({ ...source, env: { IMGSTORE_KEY: 'ab'.repeat(32) } });
  assert.equal(fromEnv?.path, undefined);
  assert.notEqual(fromEnv?.id, shown?.id);
});

test('import keeps a copy for its owner alone, once, and takes nothing but an owner key', async t => {
  const source = testKeys(t);
  const other = testKeys(t);
  const { id } = await generateOwnerKey(other);
  await loadDedupSalt(other);
  assert.deepEqual(await heldKeyIds(source), []);
  for (const _ of ['at first', 'again']) {
    const imported = await importOwnerKey(source, other.path('owner.key'));
    assert.deepEqual(imported, {
      id,
      path: source.path('owners', `${id}.key`),
      created: other.now(),
      kmsKey: undefined,
    });
    assert.deepEqual(await heldKeyIds(source), [id]);
  }
  assert.equal(statSync(source.directory).mode & 0o777, 0o700);
  assert.equal(statSync(source.path('owners')).mode & 0o777, 0o700);
  assert.equal(statSync(source.path('owners', `${id}.key`)).mode & 0o777, 0o600);

  await rejectsWith(importOwnerKey(source, other.path('dedup.salt')), 'KEY', /first line/);
  await rejectsWith(importOwnerKey(source, other.path('none')), 'NOT_FOUND', /no such file/);
  await rejectsWith(importOwnerKey(source, '/dev/null'), 'KEY', /not a regular file/);
  copyFileSync(other.path('owner.key'), other.path('open.key'));
  chmodSync(other.path('open.key'), 0o644);
  await rejectsWith(importOwnerKey(source, other.path('open.key')), 'KEY', /mode 0644/);
  assert.deepEqual(await heldKeyIds(source), [id]);
});

test("importing the home's own key changes nothing", async t => {
  const source = testKeys(t);
  const { id } = await generateOwnerKey(source);
  const imported = await importOwnerKey(source, source.path('owner.key'));
  assert.equal(imported.id, id);
  assert.equal(imported.path, source.path('owner.key'));
  assert.deepEqual(readdirSync(source.directory), ['owner.key']);
});
