import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ByteString, byteString } from '../../../src/base/byte-string.ts';
import { baseName, cleanPath, meaningOf, parentPath } from '../../../src/oci/layer/layer-path.ts';
import { seeded } from '../../support/random.ts';

function bytes(text: string): ByteString {
  return byteString(Buffer.from(text, 'latin1'));
}

test('paths are cleaned', () => {
  const paths: Record<string, string> = {
    usr: 'usr',
    'usr/': 'usr',
    './usr/lib/': 'usr/lib',
    '/usr': 'usr',
    '//usr//lib//': 'usr/lib',
    '.': '',
    './': '',
    '/': '',
    '..': '',
    '../../etc/passwd': 'etc/passwd',
    'a/../b': 'b',
    'a/../../b': 'b',
    'a/./b': 'a/b',
    'a/..': '',
    '.../..a/a..': '.../..a/a..',
    '.hidden': '.hidden',
    './.hidden/': '.hidden',
    '././a': 'a',
    'a//': 'a',
  };
  for (const [raw, clean] of Object.entries(paths)) assert.equal(cleanPath(bytes(raw)), clean, raw);
});

test('cleaning is what a walk of the components does', () => {
  for (const random of seeded(2000)) {
    const raw = random.text(random.between(1, 12), './ab');
    const kept: string[] = [];
    for (const component of raw.split('/')) {
      if (component === '..') kept.pop();
      else if (component !== '.' && component !== '') kept.push(component);
    }
    assert.equal(cleanPath(bytes(raw)), kept.join('/'), `seed ${random.seed}: ${raw}`);
  }
});

test('names that no file can have are refused', () => {
  assert.throws(() => cleanPath(bytes('')), /empty/);
  assert.throws(() => cleanPath(bytes('a\0b')), /NUL/);
  assert.throws(() => cleanPath(bytes('a/'.repeat(3000))), /more than 4096 bytes/);
  assert.equal(cleanPath(bytes(`${'a/../'.repeat(3000)}b`)), 'b');
  assert.throws(() => meaningOf(bytes(`ok/${'n'.repeat(256)}/ok`)), /more than 255 bytes/);
  assert.equal(meaningOf(bytes(`ok/${'n'.repeat(255)}`)).kind, 'entry');
});

test('whiteouts are told from names that only look like them', () => {
  const meanings: Record<string, [string, string]> = {
    'a/.wh.b': ['whiteout', 'a/b'],
    '.wh.b': ['whiteout', 'b'],
    'a/.wh..b': ['whiteout', 'a/.b'],
    'a/.wh....': ['whiteout', 'a/...'],
    '.wh..wh..opq': ['opaque', ''],
    'a/b/.wh..wh..opq': ['opaque', 'a/b'],
    '.wh..wh.plnk': ['ignored', '.wh..wh.plnk'],
    '.wh..wh.plnk/1.2': ['ignored', '.wh..wh.plnk/1.2'],
    '.wh..wh.orph/.wh.x': ['ignored', '.wh..wh.orph/.wh.x'],
    'a/x.wh.b': ['entry', 'a/x.wh.b'],
    'a.wh./b': ['entry', 'a.wh./b'],
    '.wh': ['entry', '.wh'],
    '': ['entry', ''],
  };
  for (const [path, [kind, target]] of Object.entries(meanings))
    assert.deepEqual(meaningOf(bytes(path)), { kind, path: target }, path);
  for (const path of ['.wh.', 'a/.wh..', '.wh...'])
    assert.throws(() => meaningOf(bytes(path)), /no name/);
  assert.throws(() => meaningOf(bytes('.wh.a/b')), /inside a whiteout/);
  assert.throws(() => meaningOf(bytes('.wh.a/.wh.b')), /inside a whiteout/);
});

test('a path splits into its directory and its name', () => {
  assert.deepEqual([parentPath(bytes('a')), baseName(bytes('a'))], ['', 'a']);
  assert.deepEqual([parentPath(bytes('a/b/c')), baseName(bytes('a/b/c'))], ['a/b', 'c']);
});
