import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ImgstoreError } from '../../src/base/errors.ts';
import { objectKeyLengthMaxBytes, objectKeyPartLengthMaxBytes } from '../../src/base/limits.ts';
import {
  formatImageName,
  nameObjectKey,
  nameOfObjectKey,
  parseImageName,
  parseImageReference,
} from '../../src/recipe/name.ts';
import { type Random, seeded } from '../support/random.ts';

const good: readonly [text: string, name: string, tag: string, key: string][] = [
  ['debian', 'debian', 'latest', 'debian/@latest'],
  ['debian:12', 'debian', '12', 'debian/@12'],
  ['library/debian:12.1_a-B', 'library/debian', '12.1_a-B', 'library/debian/@12.1_a-B'],
  ['a.b/c__d/e---f/g_h', 'a.b/c__d/e---f/g_h', 'latest', 'a.b/c__d/e---f/g_h/@latest'],
  ['r.example:5000/a:1', 'r.example:5000/a', '1', 'r.example%3A5000/a/@1'],
  ['localhost:5000', 'localhost', '5000', 'localhost/@5000'],
  ['my--host.example/a', 'my--host.example/a', 'latest', 'my--host.example/a/@latest'],
  ['a:_', 'a', '_', 'a/@_'],
  [
    `${'a'.repeat(255)}:${'t'.repeat(128)}`,
    'a'.repeat(255),
    't'.repeat(128),
    `${'a'.repeat(255)}/@${'t'.repeat(128)}`,
  ],
];
for (const [text, name, tag, key] of good) {
  test(`${text.slice(0, 40)} is a name, and ${key.slice(0, 40)} its key`, () => {
    assert.deepEqual(parseImageName(text), { name, tag });
    assert.deepEqual(parseImageName(formatImageName({ name, tag })), { name, tag });
    assert.equal(nameObjectKey({ name, tag }), key);
    assert.deepEqual(nameOfObjectKey(key), { name, tag });
  });
}

const bad = [
  ...['', ':', ':tag', 'a:', 'a:b:c', 'A', 'a/B', 'Example.com/a', 'a//b', '/a', 'a/', 'a/:t'],
  ...['.', '..', 'a/../b', '../a', 'a/.', '.a', 'a.', 'a..b', 'a___b', '_a', 'a_', '-a', 'a-'],
  ...['a b', 'a\n', 'a\0', 'ä', 'a:ä', 'a:-t', 'a:.t', 'a:t/u', 'a@sha256:00', 'a%3Ab', 'a/@b'],
  ...['a:5000/', 'h:123456/a', 'h:/a', 'h:x/a', 'a/b:5000/c', 'a.-/b:', '-h/a', '[::1]:5000/a'],
  ...['a'.repeat(256), `a:${'t'.repeat(129)}`, '/'.repeat(1e6), 'a-'.repeat(1e6), ':'.repeat(1e6)],
];
for (const text of bad) {
  test(`${JSON.stringify(text.slice(0, 40))} is not a name`, () => {
    assert.throws(
      () => parseImageName(text),
      (error: unknown) =>
        error instanceof ImgstoreError && error.code === 'USAGE' && error.message.length < 400,
    );
  });
}

test('keys that no name has', () => {
  const keys = [
    '',
    '@latest',
    '/@latest',
    'a',
    'a/@',
    'a/latest',
    'a/@b/@c',
    'a%3A50/@t',
    'a:5/b/@t',
  ];
  for (const key of [
    ...keys,
    'A/@t',
    'a/@b/c',
    'a/%3A/@t',
    'h%3A5/a%3A6/@t',
    'h%3a5/a/@t',
    'a//@t',
  ]) {
    assert.equal(nameOfObjectKey(key), undefined, key);
  }
});

function randomName(random: Random): string {
  const part = () =>
    random.text(random.between(1, 4), 'ab01') +
    (random.chance(0.3) ? random.pick(['.', '_', '__', '-', '---']) + random.text(2, 'xy9') : '');
  const host = random.chance(0.3) ? `${part().replaceAll('_', '-')}:${random.below(65536)}/` : '';
  const path = Array.from({ length: random.between(1, 4) }, part).join('/');
  return host + path + (random.chance(0.5) ? `:${random.text(random.between(1, 9), 'aZ_9')}` : '');
}

test('random names: one text, one key, and no key is a folder of another', () => {
  const keys = new Map<string, string>();
  for (const random of seeded(5000)) {
    const name = parseImageName(randomName(random));
    const text = formatImageName(name);
    assert.deepEqual(parseImageName(text), name, `seed ${random.seed}`);
    const key = nameObjectKey(name);
    assert.deepEqual(nameOfObjectKey(key), name, `seed ${random.seed}`);
    assert.match(key, /^[A-Za-z0-9._%~@+=\-/]+$/);
    assert.equal(keys.get(key) ?? text, text, `seed ${random.seed}: two names with one key`);
    keys.set(key, text);
  }
  for (const key of keys.keys()) {
    for (let at = key.indexOf('/'); at !== -1; at = key.indexOf('/', at + 1)) {
      assert.ok(!keys.has(key.slice(0, at)), key);
    }
  }
});

test('the longest names fit the keys of a store, with a prefix in front', () => {
  const host = `${'h'.repeat(247)}:65535`;
  const longest = parseImageName(`${host}/a:${'t'.repeat(128)}`);
  assert.equal(longest.name.length, 255);
  const key = nameObjectKey(longest);
  assert.ok(key.length <= objectKeyLengthMaxBytes - 100, `${key.length}`);
  for (const part of key.split('/')) assert.ok(part.length <= objectKeyPartLengthMaxBytes);
});

test('a reference may pin the recipe that its name has to mean', () => {
  const id = '0123456789abcdef'.repeat(4);
  assert.deepEqual(parseImageReference('team/app:1'), { name: 'team/app', tag: '1' });
  assert.deepEqual(parseImageReference(`team/app:1@${id}`), {
    name: 'team/app',
    tag: '1',
    pinned: id,
  });
  assert.equal(parseImageReference(`app@${id}`).tag, 'latest');
  for (const text of [
    'app@',
    'app@x',
    `app@${id}0`,
    `app@${id.toUpperCase()}`,
    `@${id}`,
    `a@b@${id}`,
  ]) {
    assert.throws(() => parseImageReference(text), { code: 'USAGE' }, text);
  }
});
