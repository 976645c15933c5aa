import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseRegistryReference } from '../../../src/oci/registry/reference.ts';
import { assertFault } from '../source/streams.ts';

const digest = `sha256:${'ab'.repeat(32)}`;

test('a reference means what it means for docker', () => {
  const meant: [text: string, host: string, repository: string, wanted: object][] = [
    ['busybox', 'docker.io', 'library/busybox', { tag: 'latest' }],
    ['busybox:1.36', 'docker.io', 'library/busybox', { tag: '1.36' }],
    ['docker.io/busybox', 'docker.io', 'library/busybox', { tag: 'latest' }],
    ['index.docker.io/team/app', 'docker.io', 'team/app', { tag: 'latest' }],
    ['team/app:v1', 'docker.io', 'team/app', { tag: 'v1' }],
    ['busybox:5000', 'docker.io', 'library/busybox', { tag: '5000' }],
    ['localhost/app', 'localhost', 'app', { tag: 'latest' }],
    ['localhost:5000/app:1', 'localhost:5000', 'app', { tag: '1' }],
    ['host:5000/app', 'host:5000', 'app', { tag: 'latest' }],
    ['[::1]:5000/a/b', '[::1]:5000', 'a/b', { tag: 'latest' }],
    ['ghcr.io/a/b/c/d:T_a.g-1', 'ghcr.io', 'a/b/c/d', { tag: 'T_a.g-1' }],
    ['Host/app', 'Host', 'app', { tag: 'latest' }],
    ['quay.io/a__b/c--d.e', 'quay.io', 'a__b/c--d.e', { tag: 'latest' }],
    [`ghcr.io/app@${digest}`, 'ghcr.io', 'app', { digest }],
    [`ghcr.io:443/app:tag@${digest}`, 'ghcr.io:443', 'app', { digest }],
  ];
  for (const [text, host, repository, wanted] of meant) {
    assert.deepEqual(parseRegistryReference(`//${text}`), { host, repository, wanted }, text);
  }
});

test('what is no reference is refused before anybody is asked', async () => {
  const wrong = [
    '',
    '/',
    'App',
    'ghcr.io/',
    'ghcr.io/App',
    'ghcr.io/app:',
    'ghcr.io/app:-x',
    `ghcr.io/app:${'x'.repeat(129)}`,
    'ghcr.io/../app',
    'ghcr.io/a//b',
    'ghcr.io/a/',
    'ghcr.io/-a',
    'ghcr.io/a___b',
    'ghcr.io/app?x',
    'ghcr.io/app#x',
    'ghcr.io/a pp',
    'ghcr.io/app:tag:tag',
    'ghcr.io:99999/app',
    'ghcr.io:x/app',
    'gh_cr.io/app',
    '::1/app',
    `${'a/'.repeat(200)}a`,
    'a'.repeat(100_000),
    'ghcr.io/app@',
    'ghcr.io/app@sha256:abc',
    `ghcr.io/app@${digest.toUpperCase()}`,
  ];
  for (const text of wrong) {
    await assertFault(() => parseRegistryReference(`//${text}`), 'USAGE', 'docker://HOST/REPO');
  }
  const sha512 = `//ghcr.io/app@sha512:${'ab'.repeat(64)}`;
  await assertFault(() => parseRegistryReference(sha512), 'UNSUPPORTED', 'sha256');
  await assertFault(() => parseRegistryReference('busybox'), 'USAGE', 'docker://HOST/REPO');
});

test('a user and a password in a reference are refused and not repeated', async () => {
  for (const text of [
    'tom:s3cret@ghcr.io/app',
    `tom:s3cret@ghcr.io/app@${digest}`,
    'ghcr.io/a@s3cret:x@',
  ]) {
    const fault = await assertFault(() => parseRegistryReference(`//${text}`), 'USAGE');
    assert.doesNotMatch(`${fault.message} ${fault.hint}`, /s3cret/);
  }
});
