import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeError, ImgstoreError } from '../../../src/base/errors.ts';
import { fleetNodesMax } from '../../../src/base/limits.ts';
import { parseFleet } from '../../../src/cache/fleet/fleet-config.ts';
import { seeded } from '../../support/random.ts';

const five = 'a=h1:1,b=h2:1,c=h3:1,d=h4:1,e=h5:1';

test('names, addresses, weights and domains; 4+1 by default', () => {
  const text =
    'a=127.0.0.1:11211, b=10.0.0.2:11212*2@rack2,c=[::1]:1,d=cache-4.example:65535*0.5,e=e:9@z';
  assert.deepEqual(parseFleet(text, 'IMGSTORE_FLEET'), {
    shape: { dataShards: 4, parityShards: 1 },
    nodes: [
      { name: 'a', host: '127.0.0.1', port: 11211, weight: 1, domain: 'node a' },
      { name: 'b', host: '10.0.0.2', port: 11212, weight: 2, domain: 'rack2' },
      { name: 'c', host: '::1', port: 1, weight: 1, domain: 'node c' },
      { name: 'd', host: 'cache-4.example', port: 65535, weight: 0.5, domain: 'node d' },
      { name: 'e', host: 'e', port: 9, weight: 1, domain: 'z' },
    ],
  });
});

test('another shape', () => {
  const { shape } = parseFleet(`2+3/${five}`, 'IMGSTORE_FLEET');
  assert.deepEqual(shape, { dataShards: 2, parityShards: 3 });
  const { shape: single } = parseFleet('1+0/a=h:1', 'IMGSTORE_FLEET');
  assert.deepEqual(single, { dataShards: 1, parityShards: 0 });
});

const many = Array.from({ length: fleetNodesMax + 1 }, (_, i) => `n${i}=h${i}:1`).join(',');

for (const [text, state] of [
  ['', /"" is not a node/],
  [`${five},`, /"" is not a node/],
  ['h:11211', /"h:11211" is not a node/],
  ['a=h', /is not a node/],
  ['a=h:x', /is not a node/],
  ['a=::1:11211', /is not a node/],
  ['=h:1', /"" is not a node's name/],
  ['a b=h:1', /is not a node's name/],
  ['a=h_:1', /is not a host/],
  ['a=h:0', /port 0 is none/],
  ['a=h:65536', /port 65536 is none/],
  ['a=h:1*', /"" is not a weight/],
  ['a=h:1*0', /"0" is not a weight/],
  ['a=h:1*-1', /"-1" is not a weight/],
  ['a=h:1*1e9', /"1e9" is not a weight/],
  ['a=h:1@', /"" is not a domain/],
  ['a=h:1@r 2', /is not a domain/],
  [`17+1/${five}`, /"17\+1" is not a shape/],
  [`0+1/${five}`, /is not a shape/],
  [`4+5/${five}`, /is not a shape/],
  [`4/${five}`, /"4" is not a shape/],
  ['a=h:1,b=i:1', /2 nodes are too few for 4\+1 shards/],
  [`5+1/${five}`, /5 nodes are too few for 5\+1 shards/],
  [`${five},a=h6:1`, /two nodes have the name "a"/],
  [`${five},f=h1:1`, /two nodes have the address "h1:1"/],
  [many, /more than \d+ nodes/],
] as const) {
  test(`refused: ${text.slice(0, 60)}`, () => {
    assert.throws(
      () => parseFleet(text, 'IMGSTORE_FLEET'),
      (error: unknown) =>
        error instanceof ImgstoreError &&
        error.code === 'USAGE' &&
        error.message.startsWith('Cannot use IMGSTORE_FLEET: ') &&
        state.test(error.message) &&
        error.hint !== undefined &&
        describeError(error).length < 400,
    );
  });
}

test('any text is a fleet or a USAGE error, soon', () => {
  for (const random of seeded(500)) {
    const text = random.text(random.below(80), 'ab1=:*@[],./+ h');
    try {
      parseFleet(text, 'x');
    } catch (error) {
      assert.ok(error instanceof ImgstoreError && error.code === 'USAGE', `seed ${random.seed}`);
    }
  }
  assert.throws(() => parseFleet('a=['.repeat(30_000), 'x'), ImgstoreError);
});
