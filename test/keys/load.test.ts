import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { promisify } from 'node:util';
import { ImgstoreError } from '../../src/base/errors.ts';
import { describeOwnerKey, generateOwnerKey, loadKeys, loadOwnerKey } from '../../src/keys/load.ts';
import { loadDedupSalt } from '../../src/keys/salts.ts';

const now = () => new Date('2026-01-02T03:04:05.678Z');
const env = {};
let home: string;
let directory: string;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'imgstore-keys-'));
  directory = join(home, 'home', 'keys');
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

function rejectsWith(work: Promise<unknown>, code: string, text: RegExp): Promise<void> {
  return assert.rejects(
    work,
    (error: unknown) =>
      error instanceof ImgstoreError &&
      error.code === code &&
      text.test(`${error.message}\n${error.hint}`),
  );
}

test('a push makes both at first use, for their owner alone, and finds them again', async () => {
  const first = await loadKeys({ directory, env, now });
  assert.equal(statSync(directory).mode & 0o777, 0o700);
  assert.deepEqual(readdirSync(directory).sort(), ['dedup.salt', 'owner.key']);
  for (const file of readdirSync(directory)) {
    assert.equal(statSync(join(directory, file)).mode & 0o777, 0o600);
  }
  assert.notDeepEqual(first.owner.bytes, first.salt.bytes);
  const again = await loadKeys({ directory, env });
  assert.deepEqual(again.owner.bytes, first.owner.bytes);
  assert.deepEqual(again.salt.bytes, first.salt.bytes);
});

test('a reader makes nothing: without a key it says where one belongs', async () => {
  const loading = loadOwnerKey({ directory, env, create: false });
  await rejectsWith(
    loading,
    'KEY',
    /there is no .*owner\.key\nCopy the owner\.key .*IMGSTORE_KEY/s,
  );
  assert.deepEqual(readdirSync(home), []);
});

test('a reader needs no salt', async () => {
  await generateOwnerKey({ directory, env });
  await loadOwnerKey({ directory, env, create: false });
  assert.deepEqual(readdirSync(directory), ['owner.key']);
});

test('the environment overrides the files, and nothing is written', async () => {
  const owner = await loadOwnerKey({
    directory,
    env: { IMGSTORE_KEY: 'Aa'.repeat(32) },
    create: true,
  });
  const salt = await loadDedupSalt({
    directory,
    env: { IMGSTORE_SALT: 'bb'.repeat(32) },
  });
  assert.deepEqual(owner.bytes, Buffer.alloc(32, 0xaa));
  assert.deepEqual(salt.bytes, Buffer.alloc(32, 0xbb));
  assert.deepEqual(readdirSync(home), []);
});

for (const value of ['', 'ab', 'zz'.repeat(32), `${'ab'.repeat(32)}\n`]) {
  test(`IMGSTORE_KEY of ${JSON.stringify(value)} is refused without being shown`, async () => {
    const loading = loadOwnerKey({ directory, env: { IMGSTORE_KEY: value }, create: true });
    await assert.rejects(loading, (error: unknown) => {
      assert.ok(error instanceof ImgstoreError && error.code === 'KEY');
      if (value !== '') assert.ok(!error.message.includes(value));
      return true;
    });
  });
}

for (const mode of [0o640, 0o604, 0o620, 0o610]) {
  test(`a key file of mode ${mode.toString(8)} is refused`, async () => {
    await generateOwnerKey({ directory, env });
    const path = join(directory, 'owner.key');
    chmodSync(path, mode);
    const loading = loadOwnerKey({ directory, env, create: true });
    await rejectsWith(
      loading,
      'KEY',
      new RegExp(`mode 0${mode.toString(8)}.*chmod 600 ${path}`, 's'),
    );
  });
}

test('what is not a small regular file is refused', async () => {
  mkdirSync(join(directory, 'owner.key'), { recursive: true });
  await rejectsWith(loadOwnerKey({ directory, env, create: true }), 'KEY', /not a regular file/);
  await loadDedupSalt({ directory, env });
  const path = join(directory, 'dedup.salt');
  writeFileSync(path, readFileSync(path, 'utf8') + ' '.repeat(1 << 20));
  await rejectsWith(loadDedupSalt({ directory, env }), 'KEY', /damaged/);
});

test('generate makes a key once and never replaces it; show tells nothing secret', async () => {
  const made = await generateOwnerKey({ directory, env, now });
  const path = join(directory, 'owner.key');
  const text = readFileSync(path, 'utf8');
  await rejectsWith(generateOwnerKey({ directory, env }), 'BUSY', /already there/);
  assert.equal(readFileSync(path, 'utf8'), text);
  assert.deepEqual(readdirSync(directory), ['owner.key'], 'no temporary file is left');

  const shown = await describeOwnerKey({ directory, env });
  assert.deepEqual(shown, { id: made.id, path, created: now() });
  assert.deepEqual(shown, made);
  const { bytes } = await loadOwnerKey({ directory, env, create: false });
  assert.ok(!JSON.stringify(shown).includes(bytes.toString('hex')));
  const fromEnv = await describeOwnerKey({ directory, env: { IMGSTORE_KEY: 'ab'.repeat(32) } });
  assert.equal(fromEnv.path, undefined);
  assert.notEqual(fromEnv.id, shown.id);
});

test('a folder that cannot be made is an IO error that names it', async () => {
  writeFileSync(join(home, 'home'), 'a file in the way');
  await rejectsWith(loadOwnerKey({ directory, env, create: true }), 'IO', /owner key|owner\.key/);
});

test('many callers of one process at once agree', async () => {
  const keys = await Promise.all(Array.from({ length: 20 }, () => loadKeys({ directory, env })));
  assert.equal(new Set(keys.map(({ owner }) => owner.id)).size, 1);
  assert.equal(new Set(keys.map(({ salt }) => salt.id)).size, 1);
  assert.deepEqual(readdirSync(directory).sort(), ['dedup.salt', 'owner.key']);
});

test('several processes at once agree', async () => {
  const module = join(import.meta.dirname, '..', '..', 'src', 'keys', 'load.ts');
  const script = `
    const { loadKeys } = await import(process.argv[1]);
    const { owner, salt } = await loadKeys({ directory: process.argv[2], env: {} });
    process.stdout.write(owner.id + ' ' + salt.id);`;
  const run = promisify(execFile);
  const ids = await Promise.all(
    Array.from({ length: 4 }, async () => {
      const arguments_ = ['--input-type=module', '-e', script, module, directory];
      return (await run(process.execPath, arguments_)).stdout;
    }),
  );
  assert.match(ids[0]!, /^[0-9a-f]{32} [0-9a-f]{32}$/);
  assert.equal(new Set(ids).size, 1, ids.join('\n'));
  assert.deepEqual(readdirSync(directory).sort(), ['dedup.salt', 'owner.key']);
});
