import assert from 'node:assert/strict';
import { hkdfSync } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { checkDomainName, epochAt } from '../../src/keys/domain.ts';
import { createDomain, rotateDomain } from '../../src/keys/domain-files.ts';
import { isWrapped, parseKeyFile } from '../../src/keys/key-file.ts';
import { describeSalts, findDedupSalt, loadDedupSalt } from '../../src/keys/salts.ts';
import { rejectsWith, type TestKeys, testKeys } from './support.ts';

const plain = { epochDays: undefined, kmsKey: undefined };
const dayMs = 24 * 60 * 60 * 1000;

function at(source: TestKeys, time: string | number) {
  return { ...source, now: () => new Date(time) };
}

test('the salt of the default domain: made once, overridden by the environment', async t => {
  const source = testKeys(t);
  const salt = await loadDedupSalt(source);
  assert.deepEqual((await loadDedupSalt(source)).bytes, salt.bytes);
  assert.equal(salt.domain, undefined);
  assert.equal(salt.epoch, undefined);
  const env = { IMGSTORE_SALT: 'bb'.repeat(32) };
  assert.deepEqual((await loadDedupSalt({ ...source, env })).bytes, Buffer.alloc(32, 0xbb));
  const named = await loadDedupSalt({ ...source, domain: 'team-a' });
  assert.deepEqual((await loadDedupSalt({ ...source, env, domain: 'team-a' })).bytes, named.bytes);
  const path = source.path('dedup.salt');
  writeFileSync(path, readFileSync(path, 'utf8') + ' '.repeat(1 << 20));
  await rejectsWith(loadDedupSalt(source), 'KEY', /damaged/);
});

test('each domain has a salt of its own, derived from its secret as documented', async t => {
  const source = testKeys(t);
  const [a, b] = await Promise.all(['a', 'b'].map(domain => loadDedupSalt({ ...source, domain })));
  assert.notDeepEqual(a!.bytes, b!.bytes);
  assert.equal(a!.domain, 'a');
  assert.equal(a!.epoch, undefined);
  const path = source.path('domains', 'a.salt');
  const { held } = parseKeyFile('domain', readFileSync(path, 'latin1'), path);
  assert.ok(!isWrapped(held));
  const derived = hkdfSync('sha256', held.bytes, '', 'imgstore domain salt 1 a', 32);
  assert.deepEqual(a!.bytes, Buffer.from(derived));
});

test('an epoch ends at midnight (UTC) after so many days since 1970', async t => {
  const source = testKeys(t);
  await createDomain({ ...source, ...plain, domain: 'weekly', epochDays: 7 });
  const load = (time: string | number) => loadDedupSalt({ ...at(source, time), domain: 'weekly' });
  const before = await load(7 * dayMs * 2900 - 1);
  const from = await load(7 * dayMs * 2900);
  const to = await load(7 * dayMs * 2901 - 1);
  assert.deepEqual([before.epoch, from.epoch, to.epoch], [2899, 2900, 2900]);
  assert.notDeepEqual(before.bytes, from.bytes);
  assert.deepEqual(from.bytes, to.bytes);
  assert.equal((await load('2026-01-02T03:04:05Z')).epoch, 2922);
  assert.equal((await load('1969-01-01T00:00:00Z')).epoch, 0, 'a clock that is not set');
  assert.equal(epochAt({ name: 'x', epochDays: 1 }, new Date('1970-01-02T00:00:00Z')), 1);
});

test('a repair finds the very salt of a recipe, whatever came since', async t => {
  const source = testKeys(t);
  await createDomain({ ...source, ...plain, domain: 'weekly', epochDays: 7 });
  const salts = [
    await loadDedupSalt(source),
    await loadDedupSalt({ ...source, env: { IMGSTORE_SALT: 'bb'.repeat(32) } }),
    await loadDedupSalt({ ...source, domain: 'a' }),
    await loadDedupSalt({ ...at(source, '2026-01-02'), domain: 'weekly' }),
    await loadDedupSalt({ ...at(source, '2026-03-02'), domain: 'weekly' }),
  ];
  for (const domain of ['a', 'weekly', 'a']) await rotateDomain({ ...source, ...plain, domain });
  salts.push(await loadDedupSalt({ ...source, domain: 'a' }));
  salts.push(await loadDedupSalt({ ...at(source, '2026-01-02'), domain: 'weekly' }));
  assert.equal(new Set(salts.map(({ id }) => id)).size, salts.length);
  const env = { IMGSTORE_SALT: 'bb'.repeat(32) };
  for (const { id, bytes, domain, epoch } of salts) {
    const reference = { saltId: id, saltDomain: domain, saltEpoch: epoch };
    const found = await findDedupSalt({ ...source, env }, reference);
    assert.deepEqual(found.bytes, bytes);
    assert.deepEqual([found.domain, found.epoch], [domain, epoch]);
  }
});

test('a repair without the salt names it and its domain', async t => {
  const source = testKeys(t);
  const saltId = 'ab'.repeat(16);
  await rejectsWith(
    findDedupSalt(source, { saltId }),
    'KEY',
    new RegExp(`${saltId} of the default`),
  );
  await loadDedupSalt({ ...source, domain: 'a' });
  await rejectsWith(
    findDedupSalt(source, { saltId, saltDomain: 'a', saltEpoch: 3 }),
    'KEY',
    new RegExp(`${saltId} of domain a.*keys/domains/a\\.salt`),
  );
  assert.deepEqual(readdirSync(source.path()), ['domains'], 'a repair makes nothing');
});

test('a rotated domain keeps its epochs; of two rotations at once one happens', async t => {
  const source = testKeys(t);
  const missing = rotateDomain({ ...source, ...plain, domain: 'a' });
  await rejectsWith(missing, 'KEY', /no .*domains\/a\.salt.*key generate --domain/);
  await createDomain({ ...source, ...plain, domain: 'a', epochDays: 30 });
  assert.equal(await createDomain({ ...source, ...plain, domain: 'a' }), undefined);
  const { file } = await rotateDomain({ ...source, ...plain, domain: 'a' });
  assert.equal(file.domain.epochDays, 30);
  await rotateDomain({ ...source, ...plain, domain: 'a', epochDays: 1 });
  const names = ['a.2.salt', 'a.3.salt', 'a.salt'];
  assert.deepEqual(readdirSync(source.path('domains')).sort(), names);
  const salt = await loadDedupSalt({ ...source, domain: 'a' });
  assert.equal(salt.epoch, Math.floor(source.now().getTime() / dayMs));

  const rotations = Array.from({ length: 8 }, () =>
    rotateDomain({ ...source, ...plain, domain: 'a' }).then(
      () => 'done',
      (error: unknown) => String(error),
    ),
  );
  const outcomes = await Promise.all(rotations);
  const done = outcomes.filter(outcome => outcome === 'done').length;
  assert.ok(done >= 1);
  assert.equal(readdirSync(source.path('domains')).length, 3 + done);
  for (const outcome of outcomes) assert.match(outcome, /^done$|by another at this moment/);
});

test('the tenth secret of a domain comes after the ninth', async t => {
  const source = testKeys(t);
  await createDomain({ ...source, ...plain, domain: 'a' });
  for (let rotations = 0; rotations < 10; rotations++) {
    const { path } = await rotateDomain({ ...source, ...plain, domain: 'a' });
    assert.equal(path, source.path('domains', `a.${rotations + 2}.salt`));
  }
});

test('names that could lead elsewhere are refused before any path is made of them', async t => {
  const source = testKeys(t);
  const wrong = ['', '.', '..', '../owner', 'a/b', '/etc/passwd', 'A', 'a.2', 'a_b', '-a', 'ä'];
  for (const domain of [...wrong, 'default', 'a\n', 'a\0', 'a'.repeat(64)]) {
    await rejectsWith(
      loadDedupSalt({ ...source, domain }),
      'USAGE',
      /Cannot use .* as a dedup domain/,
    );
    const rotation = rotateDomain({ ...source, ...plain, domain });
    await rejectsWith(rotation, 'USAGE', /as a dedup domain/);
  }
  for (const domain of ['a', '0', 'a-', 'a'.repeat(63)])
    assert.equal(checkDomainName(domain), domain);
});

test('files that are no domain, or the one of another domain', async t => {
  const source = testKeys(t);
  await loadDedupSalt({ ...source, domain: 'a' });
  for (const name of ['a.1.salt', 'a.02.salt', 'a.x.salt', 'A.salt', 'a.salt.new', 'b']) {
    writeFileSync(source.path('domains', name), 'hostile', { mode: 0o600 });
  }
  mkdirSync(source.path('domains', 'c.2.d.salt'));
  await loadDedupSalt({ ...source, domain: 'a' });
  assert.deepEqual(
    (await describeSalts(source)).map(({ domain }) => domain),
    ['a'],
  );
  renameSync(source.path('domains', 'a.salt'), source.path('domains', 'b.salt'));
  await rejectsWith(loadDedupSalt({ ...source, domain: 'b' }), 'KEY', /that of domain a/);
});

test('what is shown of salts: the default one, then domains, and no secret', async t => {
  const source = testKeys(t);
  assert.deepEqual(await describeSalts(source), []);
  await createDomain({ ...source, ...plain, domain: 'weekly', epochDays: 7 });
  const weekly = await loadDedupSalt({ ...source, domain: 'weekly' });
  const salt = await loadDedupSalt(source);
  const shown = await describeSalts(source);
  const { now } = source;
  assert.deepEqual(shown, [
    {
      domain: undefined,
      saltId: salt.id,
      epoch: undefined,
      epochDays: undefined,
      path: source.path('dedup.salt'),
      created: now(),
      kmsKey: undefined,
    },
    {
      domain: 'weekly',
      saltId: weekly.id,
      epoch: 2922,
      epochDays: 7,
      path: source.path('domains', 'weekly.salt'),
      created: now(),
      kmsKey: undefined,
    },
  ]);
  assert.ok(!JSON.stringify(shown).includes(salt.bytes.toString('hex')));
});
