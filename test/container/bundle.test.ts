import assert from 'node:assert/strict';
import { test } from 'node:test';
import { processArguments, runtimeConfig, searchPath } from '../../src/container/bundle.ts';
import { parseImageConfig } from '../../src/container/image-config.ts';

function config(fields: Record<string, unknown>) {
  return parseImageConfig(JSON.stringify({ config: fields }));
}

function process(fields: Record<string, unknown>, options: { terminal?: boolean } = {}) {
  const built = runtimeConfig({
    rootDirectory: '/root-of-it',
    config: config({ Cmd: ['x'], ...fields }),
    command: [],
    user: { uid: 1, gid: 2, additionalGids: [2, 3], home: '/home/it' },
    terminal: options.terminal ?? false,
    sharedFiles: [],
  });
  return (built as { process: Record<string, unknown> }).process;
}

test('arguments: the entry point, then the given ones or the image', () => {
  const image = config({ Entrypoint: ['/e', 'a'], Cmd: ['c'] });
  assert.deepEqual(processArguments(image, []), ['/e', 'a', 'c']);
  assert.deepEqual(processArguments(image, ['x', 'y']), ['/e', 'a', 'x', 'y']);
  assert.deepEqual(processArguments(config({ Cmd: null }), ['x']), ['x']);
  assert.throws(() => processArguments(config({}), []), { code: 'USAGE' });
});

test('PATH, HOME and TERM are filled in where the image says nothing', () => {
  assert.deepEqual(process({})['env'], [
    'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    'HOME=/home/it',
  ]);
  const own = ['PATH=/p', 'HOME=/h', 'TERM=t', 'EMPTY='];
  assert.deepEqual(process({ Env: [...own, 'broken', '=x'] }, { terminal: true })['env'], own);
  assert.equal(searchPath(config({ Env: ['PATH=/a', 'PATH=/b'] })), '/b');
});

test('the process runs as the user, without capabilities to inherit', () => {
  const { user, cwd, capabilities } = process({ WorkingDir: '/w' });
  assert.deepEqual(user, { uid: 1, gid: 2, additionalGids: [2, 3] });
  assert.equal(cwd, '/w');
  const granted = capabilities as Record<string, string[]>;
  assert.deepEqual(Object.keys(granted).sort(), ['bounding', 'effective', 'permitted']);
  assert.ok(!granted['bounding']!.includes('CAP_SYS_ADMIN'));
});

test('an image config that is none is refused, whatever it holds', () => {
  assert.equal(parseImageConfig('{}').workingDirectory, '/');
  assert.equal(parseImageConfig('{"config":null}').user, '');
  const wrong = ['', '[', '[]', 'null', '7', '{"config":[]}', '{"config":"x"}'];
  const fields = ['{"User":7}', '{"User":"a\\u0000b"}', '{"WorkingDir":"rel"}', '{"Cmd":"sh"}'];
  const lists = ['{"Env":{"a":"b"}}', '{"Entrypoint":[["x"]]}', '{"Cmd":["a\\u0000"]}'];
  for (const text of [...wrong, ...[...fields, ...lists].map(field => `{"config":${field}}`)]) {
    assert.throws(() => parseImageConfig(text), { code: 'CORRUPT' }, text);
  }
});
