import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type Credential, findCredential } from '../../../src/oci/registry/credentials.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { assertFault } from '../source/streams.ts';

const signal = new AbortController().signal;

function auth(username: string, password: string): { auth: string } {
  return { auth: Buffer.from(`${username}:${password}`).toString('base64') };
}

function password(username: string, secret: string): Credential {
  return { kind: 'password', username, password: secret };
}

class Login {
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;

  constructor(context: TestContext) {
    this.folder = temporaryFolder(context);
    mkdirSync(join(this.folder, 'bin'));
    mkdirSync(join(this.folder, '.docker'));
    this.env = {
      HOME: this.folder,
      XDG_RUNTIME_DIR: join(this.folder, 'run'),
      PATH: `${join(this.folder, 'bin')}:${process.env['PATH']}`,
    };
  }

  docker(config: unknown): void {
    writeFileSync(join(this.folder, '.docker/config.json'), JSON.stringify(config));
  }

  helper(name: string, script: string): void {
    const path = join(this.folder, 'bin', `docker-credential-${name}`);
    writeFileSync(path, `#!/bin/sh\n${script}\n`);
    chmodSync(path, 0o755);
  }

  find(host: string, repository = 'team/app', env: NodeJS.ProcessEnv = {}) {
    return findCredential({ host, repository }, { env: { ...this.env, ...env }, signal });
  }
}

test('without any file there are no credentials', async context => {
  assert.equal(await new Login(context).find('ghcr.io'), undefined);
});

test('an entry is found under every name that docker and podman give it', async context => {
  const login = new Login(context);
  const entry = auth('tom', 'a:b');
  const found = password('tom', 'a:b');
  const keys: [key: string, host: string][] = [
    ['ghcr.io', 'ghcr.io'],
    ['https://ghcr.io', 'ghcr.io'],
    ['https://ghcr.io/v2/', 'ghcr.io'],
    ['http://ghcr.io:5000/v1/', 'ghcr.io:5000'],
    ['https://index.docker.io/v1/', 'docker.io'],
    ['index.docker.io', 'docker.io'],
    ['docker.io', 'docker.io'],
    ['registry-1.docker.io', 'docker.io'],
  ];
  for (const [key, host] of keys) {
    login.docker({ auths: { [key]: entry } });
    assert.deepEqual(await login.find(host), found, key);
    assert.equal(await login.find(`x${host}`), undefined);
  }
});

test('the longest prefix of the repository wins', async context => {
  const login = new Login(context);
  const auths = {
    'quay.io': auth('all', '1'),
    'quay.io/team': auth('team', '2'),
    'quay.io/team/app': auth('app', '3'),
    'quay.io/te': auth('wrong', '4'),
  };
  login.docker({ auths });
  assert.deepEqual(await login.find('quay.io', 'team/app'), password('app', '3'));
  assert.deepEqual(await login.find('quay.io', 'team/app2'), password('team', '2'));
  assert.deepEqual(await login.find('quay.io', 'other/app'), password('all', '1'));
});

test('entries may be tokens, plain text or empty', async context => {
  const login = new Login(context);
  const entries: [entry: unknown, credential: Credential | undefined][] = [
    [
      { ...auth('<token>', ''), identitytoken: 'id' },
      { kind: 'identity-token', token: 'id' },
    ],
    [{ registrytoken: 'rt' }, { kind: 'registry-token', token: 'rt' }],
    [{ username: 'tom', password: 'x' }, password('tom', 'x')],
    [auth('tom', 'x\0\0'), password('tom', 'x')],
    [auth('tom', 'pä'), password('tom', 'pä')],
    [{}, undefined],
    [{ auth: '' }, undefined],
    [{ auth: 'bm9jb2xvbg==' }, undefined],
    [{ auth: 7 }, undefined],
    ['x', undefined],
  ];
  for (const [entry, credential] of entries) {
    login.docker({ auths: { 'ghcr.io': entry } });
    assert.deepEqual(await login.find('ghcr.io'), credential, JSON.stringify(entry));
  }
  for (const config of [{}, { auths: [] }, { auths: 'x', credHelpers: 1, credsStore: 2 }]) {
    login.docker(config);
    assert.equal(await login.find('ghcr.io'), undefined);
  }
});

test('REGISTRY_AUTH_FILE comes first, then what podman wrote, then docker', async context => {
  const login = new Login(context);
  const write = (path: string, user: string) =>
    writeFileSync(path, JSON.stringify({ auths: { 'ghcr.io': auth(user, 'x') } }));
  login.docker({ auths: { 'ghcr.io': auth('docker', 'x'), 'quay.io': auth('docker', 'x') } });
  assert.deepEqual(await login.find('ghcr.io'), password('docker', 'x'));
  mkdirSync(join(login.folder, 'run/containers'), { recursive: true });
  write(join(login.folder, 'run/containers/auth.json'), 'podman');
  assert.deepEqual(await login.find('ghcr.io'), password('podman', 'x'));
  const REGISTRY_AUTH_FILE = join(login.folder, 'auth.json');
  await assertFault(login.find('ghcr.io', 'app', { REGISTRY_AUTH_FILE }), 'IO', REGISTRY_AUTH_FILE);
  write(REGISTRY_AUTH_FILE, 'asked');
  assert.deepEqual(
    await login.find('ghcr.io', 'app', { REGISTRY_AUTH_FILE }),
    password('asked', 'x'),
  );
  assert.deepEqual(
    await login.find('quay.io', 'app', { REGISTRY_AUTH_FILE }),
    password('docker', 'x'),
  );
  const DOCKER_CONFIG = join(login.folder, 'elsewhere');
  assert.equal(await login.find('quay.io', 'app', { DOCKER_CONFIG }), undefined);
  writeFileSync(REGISTRY_AUTH_FILE, '{"auths": s3cret');
  const fault = await assertFault(login.find('ghcr.io', 'app', { REGISTRY_AUTH_FILE }), 'USAGE');
  assert.doesNotMatch(fault.message, /s3cret/);
});

test('helpers are asked: for their host first, for all hosts last', async context => {
  const login = new Login(context);
  const answer = `read host; echo "{\\"ServerURL\\":\\"$host\\",\\"Username\\":\\"NAME-$1\\",\\"Secret\\":\\"$host\\"}"`;
  login.helper('one', answer.replace('NAME', 'one'));
  login.helper('all', answer.replace('NAME', 'all'));
  login.helper('none', 'echo "credentials not found in native keychain"; exit 1');
  login.helper('identity', `echo '{"Username":"<token>","Secret":"id"}'`);
  const credHelpers = {
    'ghcr.io': 'one',
    'none.io': 'none',
    'id.io': 'identity',
    'docker.io': 'one',
  };
  const auths = { 'ghcr.io': auth('file', 'x'), 'quay.io': auth('file', 'x'), 'empty.io': {} };
  login.docker({ credHelpers, credsStore: 'all', auths });
  assert.deepEqual(await login.find('ghcr.io'), password('one-get', 'ghcr.io'));
  assert.deepEqual(await login.find('quay.io'), password('file', 'x'));
  assert.deepEqual(await login.find('empty.io'), password('all-get', 'empty.io'));
  assert.deepEqual(
    await login.find('docker.io'),
    password('one-get', 'https://index.docker.io/v1/'),
  );
  assert.deepEqual(await login.find('id.io'), { kind: 'identity-token', token: 'id' });
  assert.equal(await login.find('none.io'), undefined);
});

test('a helper that fails is named, and what it said is not repeated', async context => {
  const login = new Login(context);
  login.helper('fails', 'echo s3cret; echo s3cret >&2; exit 3');
  login.helper('odd', 'echo \'{"Username":"s3cret"}\'');
  login.helper('words', 'echo s3cret');
  login.helper('endless', 'while :; do echo s3cret; done');
  for (const name of ['fails', 'odd', 'words', 'endless', 'absent', '../bin/odd', 'a b']) {
    login.docker({ credHelpers: { 'ghcr.io': name } });
    const fault = await assertFault(
      login.find('ghcr.io'),
      'UNAVAILABLE',
      'ghcr.io',
      'docker-credential-',
    );
    assert.doesNotMatch(`${fault.message} ${fault.hint}`, /s3cret/);
  }
});

test('an abort ends a helper that does not answer', async context => {
  const login = new Login(context);
  login.helper('asleep', 'exec sleep 60');
  login.docker({ credsStore: 'asleep' });
  const abort = new AbortController();
  const options = { env: login.env, signal: abort.signal };
  const found = findCredential({ host: 'ghcr.io', repository: 'a' }, options);
  setTimeout(() => abort.abort(new Error('enough')), 100);
  await assert.rejects(found, { message: 'enough' });
});
