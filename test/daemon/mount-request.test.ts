import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkMountRequest } from '../../src/daemon/mount-request.ts';

const sound = { name: 'a', store: '/s', dir: '/d', as: 'erofs', rw: true, lease: false };

test('a sound request comes through, without what it should not have', () => {
  assert.deepEqual(checkMountRequest({ ...sound, extra: 1 }), sound);
  const { dir, ...own } = { ...sound, containerRuntime: '/usr/bin/runc', keyId: 'k' };
  assert.deepEqual(checkMountRequest(own), own);
});

test('anything else is refused', () => {
  const wrong: unknown[] = [undefined, null, 7, 'x', [], {}];
  for (const [field, values] of Object.entries({
    name: [undefined, 7, null],
    store: [undefined, {}],
    dir: ['relative', '', 7, null, '/a\0b', `/${'x'.repeat(5000)}`],
    as: [undefined, 'tree', 'toString'],
    rw: [undefined, 'yes', 1],
    lease: [undefined, 0],
    keyId: [7, null],
    containerRuntime: ['runc', 7],
  })) {
    for (const value of values) wrong.push({ ...sound, [field]: value });
  }
  for (const document of wrong) {
    assert.throws(() => checkMountRequest(document), { name: 'ImgstoreError', code: 'USAGE' });
  }
});
