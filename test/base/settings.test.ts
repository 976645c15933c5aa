import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ImgstoreError } from '../../src/base/errors.ts';
import { loadSettings } from '../../src/base/settings.ts';

function temporaryHome(context: TestContext, config?: string): string {
  const home = mkdtempSync(join(tmpdir(), 'imgstore-settings-'));
  context.after(() => rmSync(home, { recursive: true }));
  if (config !== undefined) writeFileSync(join(home, 'config.json'), config);
  return home;
}

function assertUsage(load: () => unknown, said: RegExp): void {
  assert.throws(load, error => {
    assert.ok(error instanceof ImgstoreError);
    assert.equal(error.code, 'USAGE');
    assert.match(error.message, said);
    return true;
  });
}

test('flags win over the environment, which wins over config.json, which wins over defaults', t => {
  const home = temporaryHome(t, '{"store": "/from/config"}');
  const env = { IMGSTORE_HOME: home };
  assert.equal(loadSettings({}, env).store, '/from/config');
  assert.equal(loadSettings({}, { ...env, IMGSTORE_STORE: '/from/env' }).store, '/from/env');
  const both = { ...env, IMGSTORE_STORE: '/from/env' };
  assert.equal(loadSettings({ store: '/from/flag' }, both).store, '/from/flag');
  assert.equal(
    loadSettings({}, { IMGSTORE_HOME: temporaryHome(t) }).diskCacheMaxBytes,
    10 * 2 ** 30,
  );
});

test('metrics are named by the environment or config.json, and an empty variable is none', t => {
  const home = temporaryHome(t, '{"metrics": "127.0.0.1:9464"}');
  const source = join(home, 'config.json');
  assert.deepEqual(loadSettings({ home }, {}).metrics, { text: '127.0.0.1:9464', source });
  const env = { IMGSTORE_METRICS: '[::1]:1' };
  assert.deepEqual(loadSettings({ home }, env).metrics, {
    text: '[::1]:1',
    source: 'IMGSTORE_METRICS',
  });
  assert.equal(loadSettings({ home }, { IMGSTORE_METRICS: '' }).metrics, undefined);
  assert.equal(loadSettings({ home: temporaryHome(t) }, {}).metrics, undefined);
});

test('a relative store is of the caller, or of the home if config.json names it', t => {
  const home = temporaryHome(t, '{"store": "elsewhere"}');
  assert.equal(loadSettings({ home }, {}).store, join(home, 'elsewhere'));
  assert.equal(loadSettings({ home, store: 'here' }, {}).store, join(process.cwd(), 'here'));
  assert.equal(loadSettings({ home, store: 's3://bucket/a' }, {}).store, 's3://bucket/a');
});

test('a home has no symlinks, whether it exists or not', t => {
  const folder = temporaryHome(t);
  mkdirSync(join(folder, 'real'));
  symlinkSync('real', join(folder, 'link'));
  assert.equal(loadSettings({ home: join(folder, 'link') }, {}).home, join(folder, 'real'));
  const missing = join(folder, 'link', 'not', 'yet');
  assert.equal(loadSettings({ home: missing }, {}).home, join(folder, 'real', 'not', 'yet'));
});

test('what is empty or wrong is said', t => {
  assertUsage(() => loadSettings({ home: '' }, {}), /--home: it is empty/);
  assertUsage(() => loadSettings({ store: '' }, {}), /--store: it is empty/);
  const wrong = [
    'no json',
    '[]',
    '{"store": ""}',
    '{"metrics": 9464}',
    '{"cache": 1}',
    '{"diskCacheMaxBytes": 1000000}',
    '{"memoryCacheMaxBytes": 0}',
    '{"memoryCacheMaxBytes": "1 GiB"}',
  ];
  for (const text of wrong) {
    const home = temporaryHome(t, text);
    assertUsage(() => loadSettings({ home }, {}), /^Cannot use .*config\.json: /);
  }
});
