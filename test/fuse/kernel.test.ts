import assert from 'node:assert/strict';
import { test } from 'node:test';
import { erofsFileDirectIoIsSound } from '../../src/fuse/kernel.ts';

test('kernels with the use-after-free of CVE-2026-23224 are not trusted with direct I/O', () => {
  for (const sound of [
    '6.12.72',
    '6.12.73-amd64',
    '6.18.11+deb14-amd64',
    '6.19.1',
    '7.0.0',
    '7.0',
  ]) {
    assert.equal(erofsFileDirectIoIsSound(sound), true, sound);
  }
  for (const unsound of [
    '6.12.71',
    '6.12.0-55.el10.x86_64',
    '6.17.13',
    '6.17.0-14-generic',
    '6.18.10',
    '6.18.0',
    '6.19.0',
    '6.1.0-44-amd64',
    '5.15.0',
    '',
    'garbage',
  ]) {
    assert.equal(erofsFileDirectIoIsSound(unsound), false, unsound);
  }
});
