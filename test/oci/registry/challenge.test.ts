import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseChallenges } from '../../../src/oci/registry/challenge.ts';
import { Random } from '../../support/random.ts';

function parsed(header: string): [scheme: string, parameters: Record<string, string>][] {
  return parseChallenges(header).map(({ scheme, parameters }) => [
    scheme,
    Object.fromEntries(parameters),
  ]);
}

test('challenges are read as registries write them', () => {
  assert.deepEqual(
    parsed(
      'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull"',
    ),
    [
      [
        'bearer',
        {
          realm: 'https://auth.docker.io/token',
          service: 'registry.docker.io',
          scope: 'repository:a/b:pull',
        },
      ],
    ],
  );
  assert.deepEqual(parsed('Basic realm="a, b=\\"c\\" \\\\"'), [
    ['basic', { realm: 'a, b="c" \\' }],
  ]);
  assert.deepEqual(parsed('BASIC Realm=x'), [['basic', { realm: 'x' }]]);
  assert.deepEqual(parsed('Bearer realm=https://host/token?a=1,service=x'), [
    ['bearer', { realm: 'https://host/token?a=1', service: 'x' }],
  ]);
  assert.deepEqual(parsed('Bearer realm = "x" , service\t=\t"y"'), [
    ['bearer', { realm: 'x', service: 'y' }],
  ]);
});

test('several challenges in one header are told apart', () => {
  assert.deepEqual(parsed('Negotiate, Basic realm="x", Bearer realm="y",service="z"'), [
    ['negotiate', {}],
    ['basic', { realm: 'x' }],
    ['bearer', { realm: 'y', service: 'z' }],
  ]);
  assert.deepEqual(parsed('NTLM TlRMTVNTUAA=, Basic realm="x"'), [
    ['ntlm', {}],
    ['basic', { realm: 'x' }],
  ]);
  assert.deepEqual(parsed(', ,Basic realm="x",,'), [['basic', { realm: 'x' }]]);
});

test('what is malformed ends the reading, and a name that is there twice counts once', () => {
  assert.deepEqual(parsed(''), []);
  assert.deepEqual(parsed('"x"'), []);
  assert.deepEqual(parsed('Bearer realm="x'), [['bearer', {}]]);
  assert.deepEqual(parsed('Bearer realm="x", service="y'), [['bearer', { realm: 'x' }]]);
  assert.deepEqual(parsed('Bearer realm="x",realm="y"'), [['bearer', { realm: 'x' }]]);
  assert.deepEqual(parsed('Bearer __proto__="x"')[0]![0], 'bearer');
  assert.equal(parsed('Basic,'.repeat(1000)).length, 16);
});

test('no header takes long, whatever is in it', () => {
  const size = 1_000_000;
  const hostile = ['a', 'a ', '"', '\\', '=', ',', ' ', 'a=', 'a="', 'a="\\', 'A a=====', 'a="",'];
  const started = performance.now();
  for (const text of hostile) {
    parseChallenges(text.repeat(size / text.length));
    parseChallenges(`Bearer realm="${text.repeat(size / text.length)}`);
  }
  const random = new Random(3);
  for (let i = 0; i < 2000; i++) {
    const text = Array.from({ length: 40 }, () =>
      random.pick(['Bearer', 'a', '=', '"', ',', ' ', '\\']),
    ).join('');
    for (const { scheme } of parseChallenges(text))
      assert.match(scheme, /^[a-z]+$/, `seed ${random.seed}`);
  }
  assert.ok(performance.now() - started < 5000);
});
