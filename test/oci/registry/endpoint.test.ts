/** TLS, and that it is never left. */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { isLoopback, registryUrl } from '../../../src/oci/registry/endpoint.ts';
import { loopbackCertificate } from '../../support/loopback-certificate.ts';
import { createTestHome } from '../../support/processes.ts';
import { tarOf } from '../../support/tar-builder.ts';
import { assertFault } from '../source/streams.ts';
import { imageOf, OddRegistry, openFrom } from './odd-registry.ts';

const image = imageOf([tarOf([{ path: 'file', content: 'x' }])]);

test('loopback hosts are those of the machine itself', () => {
  const hostname = (host: string) => new URL(`http://${host}`).hostname;
  for (const host of [
    'localhost',
    'LOCALHOST:5000',
    '127.0.0.1',
    '127.1:80',
    '127.9.9.9',
    '[::1]:5000',
  ]) {
    assert.ok(isLoopback(hostname(host)), host);
  }
  const others = [
    'localhost.example',
    '127.0.0.1.example',
    '128.0.0.1',
    '10.0.0.1',
    '[::2]',
    '0.0.0.0',
    'x.localhost',
  ];
  for (const host of others) assert.ok(!isLoopback(hostname(host)), host);
});

test('TLS is for all, but for loopback hosts that do not speak it and for who asks', async context => {
  const secure = await OddRegistry.start(context, image, { tls: true });
  const plain = await OddRegistry.start(context, image);
  const url = async (host: string, plainHttp = false) =>
    (await registryUrl(host, { plainHttp })).href;
  assert.equal(await url('docker.io'), 'https://registry-1.docker.io/v2/');
  assert.equal(await url('ghcr.io:8443'), 'https://ghcr.io:8443/v2/');
  assert.equal(await url('ghcr.io', true), 'http://ghcr.io/v2/');
  assert.equal(await url(secure.host), `https://${secure.host}/v2/`);
  assert.equal(await url(secure.host, true), `http://${secure.host}/v2/`);
  assert.equal(await url(plain.host), `http://${plain.host}/v2/`);
  assert.equal(plain.requests.length, 0, 'nothing was asked to find out');
  await assertFault(registryUrl('256.256.256.256', { plainHttp: false }), 'USAGE', 'malformed');
});

test('a certificate of an own authority is taken from NODE_EXTRA_CA_CERTS only', async context => {
  const registry = await OddRegistry.start(context, image, { tls: true });
  const home = createTestHome(context);
  const source = `docker://${registry.host}/app`;
  const refused = await home.run(['push', '--quiet', source, 'app']);
  assert.equal(refused.exitCode, 1);
  assert.match(refused.stderr, /is not trusted .*NODE_EXTRA_CA_CERTS\.\n$/);
  assert.equal(registry.requests.length, 0);
  const NODE_EXTRA_CA_CERTS = home.path('authority.pem');
  writeFileSync(NODE_EXTRA_CA_CERTS, loopbackCertificate);
  await home.runChecked(['push', '--quiet', source, 'app'], { env: { NODE_EXTRA_CA_CERTS } });
  assert.equal(registry.requests.length, 3);
  // A server that speaks TLS is not asked without it by mistake.
  const plain = await home.run(['push', '--quiet', '--plain-http', source, 'app']);
  assert.equal(plain.exitCode, 1);
});

test('who was reached by TLS leads nobody to plain HTTP', async context => {
  const before = getCACertificates('default');
  setDefaultCACertificates([...before, loopbackCertificate]);
  context.after(async () => setDefaultCACertificates(before));
  const plain = await OddRegistry.start(context, image);
  const headers = [
    [302, { Location: `http://${plain.host}/v2/app/manifests/latest` }],
    [401, { 'WWW-Authenticate': `Bearer realm="http://${plain.host}/token"` }],
  ] as const;
  for (const [status, header] of headers) {
    const handler = (_: unknown, response: import('node:http').ServerResponse) =>
      response.writeHead(status, header).end() && true;
    const registry = await OddRegistry.start(context, image, { tls: true, handler });
    await assertFault(openFrom(`${registry.host}/app`), 'UNAVAILABLE', 'from TLS to plain HTTP');
  }
  assert.equal(plain.requests.length, 0);
});
