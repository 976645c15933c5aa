/** Images in Debian's docker-registry, filled by skopeo. */

import assert from 'node:assert/strict';
import { sign } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { openSource } from '../../../src/oci/source/open.ts';
import { loopbackCertificate, loopbackKey } from '../../support/loopback-certificate.ts';
import {
  type LayoutImage,
  mediaTypes,
  writeDocument,
  writeOciLayout,
} from '../../support/oci-layout.ts';
import { createTestHome } from '../../support/processes.ts';
import { Random } from '../../support/random.ts';
import { registryPassword, registryUser, startRegistry } from '../../support/registry.ts';
import { writeSmallImage } from '../../support/small-images.ts';
import { tarOf } from '../../support/tar-builder.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { assertFault, readLayerOf } from '../source/streams.ts';
import { imageOf, type OddHandler, OddRegistry } from './odd-registry.ts';

/** No credentials of this machine. */
function emptyEnvironment(folder: string): NodeJS.ProcessEnv {
  return { PATH: process.env['PATH'], HOME: folder, XDG_RUNTIME_DIR: folder };
}

const random = new Random(11);
/** The first is larger than what is downloaded ahead. */
const contents = [
  random.bytes(12_000_000),
  random.bytes(3000),
  random.bytes(200_000),
  Buffer.alloc(0),
];
const tars = contents.map((content, i) => tarOf([{ path: `file${i}`, content }]));
const layered: LayoutImage = {
  layers: tars.map((tar, i) => ({ tar, compression: i === 1 ? 'none' : 'gzip' })),
};

/**
 * A token service as docker-registry trusts it: its tokens are signed (ES256) and carry the
 * certificate whose key has signed.
 */
async function startTokenService(context: TestContext): Promise<OddRegistry> {
  const handler: OddHandler = ({ path, authorization }, response) => {
    const login = `${registryUser}:${registryPassword}`;
    if (authorization !== `Basic ${Buffer.from(login).toString('base64')}`) {
      response.writeHead(401).end();
      return true;
    }
    const query = new URL(path, 'http://x').searchParams;
    const [type, name, actions] = query.get('scope')!.split(':');
    const access = [{ type, name, actions: actions!.split(',') }];
    const now = Math.floor(Date.now() / 1000);
    const claims = {
      iss: 'test',
      aud: query.get('service'),
      iat: now,
      nbf: now - 5,
      exp: now + 60,
    };
    const token = signed({ ...claims, jti: 'x', sub: registryUser, access });
    response.end(JSON.stringify({ token, expires_in: 60 }));
    return true;
  };
  return OddRegistry.start(context, imageOf([]), { handler });
}

function signed(claims: object): string {
  const x5c = [loopbackCertificate.replace(/-----.*-----|\n/g, '')];
  const encode = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url');
  const text = `${encode({ typ: 'JWT', alg: 'ES256', x5c })}.${encode(claims)}`;
  const key = { key: loopbackKey, dsaEncoding: 'ieee-p1363' as const };
  return `${text}.${sign('sha256', Buffer.from(text), key).toString('base64url')}`;
}

test('an image is read as it was copied there, in the types of OCI and of Docker', async context => {
  const folder = temporaryFolder(context);
  const env = emptyEnvironment(folder);
  const registry = await startRegistry(context);
  const { manifest } = writeOciLayout(join(folder, 'layout'), { ...layered, tag: 'latest' });
  await registry.fill(`oci:${folder}/layout`, 'team/oci:1', ['--preserve-digests']);
  const image = await openSource(`docker://${registry.host}/team/oci:1`, { env });
  context.after(() => image.close());
  assert.equal(image.manifestDigest, manifest.digest);
  assert.deepEqual(
    registry.requests.map(line => line.replace(/sha256:.*/, 'DIGEST')),
    ['GET /v2/team/oci/manifests/1', 'GET /v2/team/oci/blobs/DIGEST'],
    'no layer is asked for before it is read',
  );
  for (let i = tars.length - 1; i >= 0; i--)
    assert.ok((await readLayerOf(image, i)).equals(tars[i]!));
  assert.ok((await readLayerOf(image, 0)).equals(tars[0]!), 'a second time');
  const layers = new Set(image.layers.map(layer => layer.digest)).size;
  assert.equal(registry.requests.length, 2 + layers + 1, 'each is asked for once a reading');

  await registry.fill(`oci:${folder}/layout`, 'team/docker:1', ['--format=v2s2']);
  const docker = await openSource(`docker://${registry.host}/team/docker:1`, { env });
  context.after(() => docker.close());
  assert.notEqual(docker.manifestDigest, manifest.digest);
  assert.deepEqual(
    docker.layers.map(layer => layer.diffId),
    image.layers.map(layer => layer.diffId),
  );
  assert.ok((await readLayerOf(docker, 2)).equals(tars[2]!));
});

test('the platform is chosen, and a digest means just that manifest', async context => {
  const folder = temporaryFolder(context);
  const env = emptyEnvironment(folder);
  const registry = await startRegistry(context);
  const layout = join(folder, 'layout');
  const platforms = [
    { os: 'linux', architecture: 'amd64' },
    { os: 'linux', architecture: 'arm64' },
  ];
  const written = platforms.map((platform, i) => {
    const tar = tarOf([{ path: 'arch', content: platform.architecture }]);
    return {
      tar,
      ...writeOciLayout(layout, { layers: [{ tar, compression: 'gzip' }], platform, tag: `p${i}` }),
    };
  });
  // As `docker buildx` does it: one index in place of the two entries.
  const manifests = written.map(({ manifest }) => ({ ...manifest, annotations: {} }));
  const index = writeDocument(layout, mediaTypes.index, {
    schemaVersion: 2,
    mediaType: mediaTypes.index,
    manifests,
  });
  writeFileSync(
    join(layout, 'index.json'),
    JSON.stringify({ schemaVersion: 2, manifests: [index] }),
  );
  await registry.fill(`oci:${layout}`, 'multi:1', ['--multi-arch=all']);
  const source = `docker://${registry.host}/multi`;
  for (const [i, { architecture }] of platforms.entries()) {
    const image = await openSource(`${source}:1`, { env, platform: `linux/${architecture}` });
    context.after(() => image.close());
    assert.equal(image.manifestDigest, written[i]!.manifest.digest);
    assert.ok((await readLayerOf(image)).equals(written[i]!.tar));
  }
  assert.equal(registry.requests.filter(line => line.includes('/manifests/')).length, 4);
  await assertFault(
    openSource(`${source}:1`, { env, platform: 'linux/s390x' }),
    'NOT_FOUND',
    'linux/arm64',
  );
  const { digest } = written[1]!.manifest;
  const exact = await openSource(`${source}:1@${digest}`, { env });
  context.after(() => exact.close());
  assert.deepEqual([exact.manifestDigest, exact.platform.architecture], [digest, 'arm64']);
  const absent = `sha256:${'0'.repeat(64)}`;
  await assertFault(
    openSource(`${source}@${absent}`, { env }),
    'NOT_FOUND',
    absent,
    'MANIFEST_UNKNOWN',
  );
  await assertFault(openSource(`${source}:2`, { env }), 'NOT_FOUND', `${source}:2`);
  await assertFault(openSource(`docker://${registry.host}/no/such`, { env }), 'NOT_FOUND');
});

test('a registry with a password takes that of the configuration files, and no other', async context => {
  const folder = temporaryFolder(context);
  const env = emptyEnvironment(folder);
  const registry = await startRegistry(context, { password: true });
  writeOciLayout(join(folder, 'layout'), { ...layered, tag: 'latest' });
  await registry.fill(`oci:${folder}/layout`, 'team/private');
  const source = `docker://${registry.host}/team/private`;
  await assertFault(openSource(source, { env }), 'IO', source, 'docker login');

  const authFile = (password: string, key = registry.host) => {
    const auth = Buffer.from(`${registryUser}:${password}`).toString('base64');
    return JSON.stringify({ auths: { [key]: { auth } } });
  };
  mkdirSync(join(folder, '.docker'));
  writeFileSync(join(folder, '.docker/config.json'), authFile('wrong-one'));
  const refused = await assertFault(openSource(source, { env }), 'IO', 'refuses access');
  assert.doesNotMatch(`${refused.message} ${refused.hint}`, /wrong-one/);
  writeFileSync(join(folder, '.docker/config.json'), authFile(registryPassword));
  const image = await openSource(source, { env });
  context.after(() => image.close());
  assert.ok((await readLayerOf(image, 0)).equals(tars[0]!));

  const REGISTRY_AUTH_FILE = join(folder, 'auth.json');
  writeFileSync(REGISTRY_AUTH_FILE, authFile(registryPassword, `${registry.host}/team`));
  writeFileSync(join(folder, '.docker/config.json'), authFile('wrong-one'));
  const other = await openSource(source, { env: { ...env, REGISTRY_AUTH_FILE } });
  await other.close();
});

test('a registry takes the tokens of a service that it trusts', async context => {
  const folder = temporaryFolder(context);
  const tokens = await startTokenService(context);
  writeFileSync(join(folder, 'authority.pem'), loopbackCertificate);
  const configuration = `auth:
  token:
    realm: http://${tokens.host}/token
    service: the registry
    issuer: test
    rootcertbundle: ${folder}/authority.pem
`;
  const registry = await startRegistry(context, { configuration });
  writeOciLayout(join(folder, 'layout'), { ...layered, tag: 'latest' });
  const login = [`--dest-creds=${registryUser}:${registryPassword}`];
  await registry.fill(`oci:${folder}/layout`, 'team/app', login);
  tokens.requests.length = 0;
  const source = `docker://${registry.host}/team/app`;
  const env = emptyEnvironment(folder);
  await assertFault(openSource(source, { env }), 'IO', tokens.host, 'docker login');
  const auth = Buffer.from(`${registryUser}:${registryPassword}`).toString('base64');
  mkdirSync(join(folder, '.docker'));
  const config = JSON.stringify({ auths: { [registry.host]: { auth } } });
  writeFileSync(join(folder, '.docker/config.json'), config);
  const image = await openSource(source, { env });
  context.after(() => image.close());
  assert.ok((await readLayerOf(image, 0)).equals(tars[0]!));
  assert.equal(tokens.requests.length, 2, 'one that was refused and one that was granted');
});

test('imgstore pushes from a registry, and an unchanged image needs its manifest only', async context => {
  const home = createTestHome(context);
  const registry = await startRegistry(context);
  await registry.fill(writeSmallImage(home, 'small'), 'repo:tag');
  const env = emptyEnvironment(home.dir);
  const source = `docker://${registry.host}/repo:tag`;
  await home.runChecked(['push', '--quiet', source, 'hello'], { env });
  assert.equal(registry.requests.length, 3);
  registry.requests.length = 0;
  const { stdout } = await home.runChecked(['push', source, 'hello'], { env });
  assert.match(stdout, /^hello(:latest)? is already there, unchanged/);
  assert.match(registry.requests.join('\n'), /^GET \/v2\/repo\/manifests\/tag\S*$/);
  const { stdout: verified } = await home.runChecked(['verify', 'hello'], { env });
  assert.match(verified, /./);
  const missing = await home.run(['push', `docker://${registry.host}/repo:other`, 'hello'], {
    env,
  });
  assert.equal(missing.exitCode, 1);
  assert.match(
    missing.stderr,
    /^imgstore: Cannot open docker:.*Check the repository and the tag\.\n$/m,
  );
});
