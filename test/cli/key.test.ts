/** `key` through the command line: what it prints, what a rotation leaves readable, and tenants. */

import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { LocalKms } from '../support/local-kms.ts';
import { createTestHome, TestHome } from '../support/processes.ts';
import { seeded } from '../support/random.ts';
import { pushSmallImage, writeSmallImage } from '../support/small-images.ts';

async function json(
  home: TestHome,
  args: readonly string[],
  env?: NodeJS.ProcessEnv,
): Promise<Record<string, unknown>> {
  const { stdout } = await home.runChecked([...args, '--json'], env && { env });
  return JSON.parse(stdout) as Record<string, unknown>;
}

function secretsOf(home: TestHome): string[] {
  const keys = `${home.home}/keys`;
  const files = readdirSync(keys, { recursive: true, encoding: 'utf8' });
  const texts = files
    .filter(file => /\.(key|salt)$/.test(file))
    .map(file => {
      return readFileSync(`${keys}/${file}`, 'latin1');
    });
  return texts.flatMap(text => /^secret (.*)$/m.exec(text)?.slice(1) ?? []);
}

test('generate, show and domains: ids and places, and no secret', async context => {
  const home = createTestHome(context);
  const none = await home.run(['key', 'show']);
  assert.equal(none.exitCode, 1);
  assert.match(none.stderr, /there is no .*owner\.key/);
  const made = await json(home, ['key', 'generate']);
  const again = await home.run(['key', 'generate']);
  assert.match(again.stderr, /already there/);
  await home.runChecked(['key', 'generate', '--domain', 'team-a', '--epoch-days', '7']);
  const twice = await home.run(['key', 'generate', '--domain', 'team-a']);
  assert.match(twice.stderr, /dedup domain team-a: it is there.*key rotate --domain/);
  await home.runChecked(['key', 'rotate', '--domain', 'team-a']);

  const shown = await json(home, ['key', 'show']);
  assert.equal(shown['id'], made['id']);
  const [salt] = shown['salts'] as Record<string, unknown>[];
  assert.equal(salt?.['domain'], 'team-a');
  assert.equal(salt?.['epochDays'], 7);
  assert.match(String(salt?.['path']), /domains\/team-a\.2\.salt$/);
  const { stdout } = await home.runChecked(['key', 'show']);
  assert.match(stdout, new RegExp(`^id: +${made['id']}\nkept: `));
  assert.match(stdout, /DEDUP DOMAIN.*\nteam-a +[0-9a-f]{32} +\d+, of 7 days/);
  const secrets = secretsOf(home);
  assert.equal(secrets.length, 3);
  for (const secret of secrets) assert.ok(!(stdout + JSON.stringify(shown)).includes(secret));
});

const wrong: readonly (readonly string[])[] = [
  ['forge'],
  ['generate', 'file'],
  ['import'],
  ['show', '--domain', 'a'],
  ['show', '--kms', 'alias/a'],
  ['generate', '--epoch-days', '7'],
  ['generate', '--domain', 'a', '--epoch-days', '0'],
  ['generate', '--domain', 'a', '--epoch-days', '1e2'],
  ['generate', '--domain', 'a', '--from', 'b'],
  ['generate', '--domain', '../a'],
  ['generate', '--domain', 'default'],
  ['generate', '--kms', 'a b'],
];
test('what makes no sense is wrong usage, and makes nothing', async context => {
  const home = createTestHome(context);
  const results = await Promise.all(wrong.map(args => home.run(['key', ...args])));
  for (const [at, { exitCode, stderr }] of results.entries()) {
    assert.equal(exitCode, 2, `${wrong[at]!.join(' ')}: ${stderr}`);
    assert.match(stderr, /^imgstore: Cannot /);
  }
  assert.deepEqual(readdirSync(home.dir), []);
});

test('after a rotation all images are there, for the new key alone', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'app:1');
  const before = await json(home, ['inspect', 'app:1']);
  const { id } = await json(home, ['key', 'show']);
  const refused = await home.run(['key', 'rotate'], { env: { IMGSTORE_KEY: 'ab'.repeat(32) } });
  assert.equal(refused.exitCode, 2);
  assert.match(refused.stderr, /Unset IMGSTORE_KEY/);

  const { id: next, ...rotated } = await json(home, ['key', 'rotate']);
  assert.notEqual(next, id);
  assert.deepEqual(rotated, { before: id, continued: false, recipes: 1, names: 1, damaged: 0 });
  const shown = await json(home, ['key', 'show']);
  assert.equal(shown['id'], next);
  assert.deepEqual(shown['held'], [id]);
  assert.equal(shown['rotation'], undefined);
  rmSync(`${home.home}/keys/owners/${id}.key`);
  assert.deepEqual(await json(home, ['inspect', 'app:1']), before);
  await home.runChecked(['verify']);
});

test('a rotation that is killed at any moment leaves images readable, and goes on', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'app:1');
  const source = writeSmallImage(home, 'more');
  for (const tag of ['2', '3', '4']) await home.runChecked(['push', source, `app:${tag}`]);
  let killed = 0;
  for (const random of seeded(6)) {
    const { child, result } = home.start(['key', 'rotate']);
    const plan = `${home.home}/keys/rotation`;
    while (!existsSync(plan) && child.exitCode === null) await sleep(1);
    await sleep(random.below(12));
    child.kill('SIGKILL');
    await result;
    await home.runChecked(['verify']);
    const { rotation } = await json(home, ['key', 'show']);
    if (rotation === undefined) continue; // it was done before the signal came
    killed++;
    const { continued, before } = await json(home, ['key', 'rotate']);
    assert.equal(continued, true, `seed ${random.seed}`);
    assert.equal(before, (rotation as { from: string }).from);
  }
  assert.ok(killed > 0);
  rmSync(`${home.home}/keys/owners`, { recursive: true });
  await home.runChecked(['verify']);
  const { stdout } = await home.runChecked(['ls', '--json']);
  assert.equal((JSON.parse(stdout) as unknown[]).length, 4);
  assert.doesNotMatch(stdout, /other-key/, 'nothing is left under an earlier key');
});

test('another owner is told which key is needed, and reads once it is imported', async context => {
  const home = createTestHome(context);
  const tenant = new TestHome();
  context.after(() => tenant.close());
  const store = ['--store', `${home.home}/store`];
  await pushSmallImage(home, 'app:1');
  const { id } = await json(home, ['key', 'show']);
  await tenant.runChecked(['key', 'generate']);
  const refused = await tenant.run(['inspect', 'app:1', ...store]);
  assert.equal(refused.exitCode, 1);
  assert.match(refused.stderr, new RegExp(`needs owner key ${id}.*keys/owners/${id}\\.key`));
  await tenant.runChecked(['key', 'import', `${home.home}/keys/owner.key`]);
  await tenant.runChecked(['inspect', 'app:1', ...store]);
  const { stdout } = await tenant.runChecked(['ls', ...store]);
  assert.match(stdout, new RegExp(`app:1 .* key ${id}, held\n`));
  assert.deepEqual((await json(tenant, ['key', 'show']))['held'], [id]);

  // Whoever holds a key may take over what is under it.
  const { names } = await json(tenant, ['key', 'rotate', '--from', String(id), ...store]);
  assert.equal(names, 1);
  assert.equal((await home.run(['inspect', 'app:1'])).exitCode, 1);
});

test('a home whose secrets are all wrapped by KMS', async context => {
  await using kms = await LocalKms.start();
  kms.addKey('images');
  const home = createTestHome(context);
  const env = kms.environment();
  await home.runChecked(['key', 'generate', '--kms', 'alias/images'], { env });
  await home.runChecked(['push', writeSmallImage(home, 'app'), 'app:1'], { env });
  assert.deepEqual(secretsOf(home), []);
  await home.runChecked(['verify', 'app:1'], { env });
  const denied = kms.environmentOfUser(() => false);
  const refused = await home.run(['verify', 'app:1'], { env: denied });
  assert.match(refused.stderr, /access denied.*Have kms:GenerateDataKey/);
  const { names } = await json(home, ['key', 'rotate'], env);
  assert.equal(names, 1);
  assert.deepEqual(secretsOf(home), []);
  await home.runChecked(['verify', 'app:1'], { env });
});
