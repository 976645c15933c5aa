import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  formatPlatform,
  machinePlatform,
  normalizePlatform,
  platformRank,
  platformWish,
} from '../../../src/oci/source/platform.ts';
import { assertFault } from './streams.ts';

const order = (text: string) => platformWish(text).ranked.map(formatPlatform).join(' ');

test('aliases are one platform', () => {
  const normalized = (text: string) => formatPlatform(platformWish(text).ranked[0]!);
  assert.equal(normalized('linux/x86_64'), 'linux/amd64');
  assert.equal(normalized('Linux/X86-64/v1'), 'linux/amd64');
  assert.equal(normalized('linux/aarch64'), 'linux/arm64');
  assert.equal(normalized('linux/arm64/v8'), 'linux/arm64');
  assert.equal(normalized('linux/arm64/8'), 'linux/arm64');
  assert.equal(normalized('linux/arm'), 'linux/arm/v7');
  assert.equal(normalized('linux/armhf'), 'linux/arm/v7');
  assert.equal(normalized('linux/armel'), 'linux/arm/v6');
  assert.equal(normalized('linux/arm/6'), 'linux/arm/v6');
  assert.equal(normalized('linux/i386'), 'linux/386');
  assert.equal(normalized('macos/arm64'), 'darwin/arm64');
  assert.equal(normalized('linux/riscv64'), 'linux/riscv64');
  assert.equal(
    formatPlatform(normalizePlatform({ os: 'linux', architecture: 'arm64', variant: 'v8' })),
    'linux/arm64',
  );
});

test("the order of preference is containerd's", () => {
  assert.equal(order('linux/amd64'), 'linux/amd64 linux/386');
  assert.equal(order('linux/amd64/v3'), 'linux/amd64/v3 linux/amd64/v2 linux/amd64 linux/386');
  assert.equal(order('linux/arm/v7'), 'linux/arm/v7 linux/arm/v6 linux/arm/v5');
  assert.equal(order('linux/arm/v5'), 'linux/arm/v5');
  const arm32 = 'linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5';
  assert.equal(order('linux/arm64'), `linux/arm64 ${arm32}`);
  assert.equal(order('linux/arm64/v8.2'), `linux/arm64/v8.2 linux/arm64/v8.1 linux/arm64 ${arm32}`);
  assert.equal(
    order('linux/arm64/v9.1'),
    'linux/arm64/v9.1 linux/arm64/v9 linux/arm64/v8.6 linux/arm64/v8.5 linux/arm64/v8.4 ' +
      `linux/arm64/v8.3 linux/arm64/v8.2 linux/arm64/v8.1 linux/arm64 ${arm32}`,
  );
  assert.equal(order('linux/s390x'), 'linux/s390x');
});

test('a rank is the place in that order', () => {
  const wish = platformWish('linux/arm64');
  assert.equal(platformRank(wish, { os: 'linux', architecture: 'arm64' }), 0);
  assert.equal(platformRank(wish, { os: 'linux', architecture: 'arm', variant: 'v6' }), 3);
  assert.equal(platformRank(wish, { os: 'linux', architecture: 'amd64' }), undefined);
  assert.equal(platformRank(wish, { os: 'darwin', architecture: 'arm64' }), undefined);
});

test("the machine's own is the default", () => {
  assert.equal(formatPlatform(machinePlatform('x64')), 'linux/amd64');
  assert.equal(formatPlatform(machinePlatform('arm64')), 'linux/arm64');
  assert.deepEqual(platformWish(undefined).ranked[0], machinePlatform());
  assert.equal(platformWish(undefined).explicit, false);
  assert.equal(platformWish('linux/amd64').explicit, true);
});

test('what is no platform is a fault of usage', async () => {
  for (const text of [
    '',
    'amd64',
    'linux/',
    '/amd64',
    'linux/amd64/v1/x',
    'linux /amd64',
    '../x/',
  ]) {
    await assertFault(() => platformWish(text), 'USAGE', 'linux/arm64');
  }
});
