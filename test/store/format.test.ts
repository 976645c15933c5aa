import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseChunkId, parseRecipeId } from '../../src/base/digest.ts';
import {
  checkStoreDocument,
  chunkIdOfObjectKey,
  chunkObjectKey,
  formatRootsDocument,
  formatStoreDocument,
  parseRootsDocument,
  recipeObjectKey,
} from '../../src/store/format.ts';
import { isFault } from '../contract/object-store.ts';
import { seeded } from '../support/random.ts';

test('keys of chunks are pinned, and lead back to the id', () => {
  const id = parseChunkId('0123456789abcdef'.repeat(4));
  assert.equal(chunkObjectKey(id), `01/${id}`);
  assert.equal(chunkIdOfObjectKey(`01/${id}`), id);
  for (const key of [id, `02/${id}`, `01/${id}x`, `01/${id.slice(1)}`, `01/${id.toUpperCase()}`]) {
    assert.equal(chunkIdOfObjectKey(key), undefined, key);
  }
  assert.equal(recipeObjectKey(parseRecipeId(id)), id);
});

test('documents are read as they were written', () => {
  checkStoreDocument(formatStoreDocument(), 'here');
  const roots = [
    { id: 'r0001', state: 'expired' },
    { id: 'r0002', state: 'retired' },
    { id: 'r123456789', state: 'active' },
  ] as const;
  assert.deepEqual(parseRootsDocument(formatRootsDocument(roots), 'here'), roots);
});

test('fields that are not known are left alone', () => {
  checkStoreDocument(Buffer.from('{"note":{"x":[1]},"format":1}'), 'here');
  const text = '{"more":1,"roots":[{"id":"r0001","state":"active","since":"today"}]}';
  assert.deepEqual(parseRootsDocument(Buffer.from(text), 'here'), [
    { id: 'r0001', state: 'active' },
  ]);
});

test('another format is UNSUPPORTED and named, what is none is CORRUPT', () => {
  const check = (text: string) => () => checkStoreDocument(Buffer.from(text), 'here');
  assert.throws(check('{"format":2}'), isFault('UNSUPPORTED', /has format 2, .* writes format 1$/));
  for (const format of ['0', '-1', '1.5', '"1"', 'null', '1e300', '[1]', '{}', 'true']) {
    assert.throws(check(`{"format":${format}}`), isFault('CORRUPT'), format);
  }
  for (const text of [
    '',
    '{}',
    '1',
    'null',
    '[]',
    '[{"format":1}]',
    '{"format":1',
    '\ufeff{"x":1}',
  ]) {
    assert.throws(check(text), isFault('CORRUPT'), text);
  }
  assert.throws(() => checkStoreDocument(Buffer.from([0x22, 0xff, 0x22]), 'x'), isFault('CORRUPT'));
  assert.throws(check(`{"format":${'['.repeat(60_000)}`), isFault('CORRUPT'));
});

test('roots without exactly one active, with bad ids or states are CORRUPT', () => {
  const active = '{"id":"r0001","state":"active"}';
  const wrong = [
    '{}',
    '{"roots":{}}',
    '{"roots":[]}',
    '{"roots":[null]}',
    '{"roots":[[]]}',
    '{"roots":["r0001"]}',
    '{"roots":[{"id":"r0001"}]}',
    '{"roots":[{"id":"r0001","state":"retired"}]}',
    '{"roots":[{"id":"r0001","state":"Active"}]}',
    `{"roots":[${active},${active}]}`,
    `{"roots":[${active},{"id":"r0002","state":"active"}]}`,
    `{"roots":[${active},{"id":"../x","state":"retired"}]}`,
    `{"roots":[${active},{"id":"r1","state":"retired"}]}`,
    `{"roots":[${active},{"id":"r0002\\n","state":"retired"}]}`,
    `{"roots":[${active},{"id":7,"state":"retired"}]}`,
    '{"roots":[{"__proto__":{"id":"r0001","state":"active"}}]}',
  ];
  for (const text of wrong) {
    assert.throws(() => parseRootsDocument(Buffer.from(text), 'here'), isFault('CORRUPT'), text);
  }
});

test('damaged documents are refused with a typed error or still say the same kind of thing', () => {
  const whole = formatRootsDocument([
    { id: 'r0001', state: 'retired' },
    { id: 'r0002', state: 'active' },
  ]);
  for (const random of seeded(2000)) {
    const bytes = Buffer.from(whole);
    for (let i = random.between(1, 3); i > 0; i--) bytes[random.below(bytes.length)] = random.u32();
    try {
      const roots = parseRootsDocument(bytes, 'here');
      assert.equal(roots.filter(({ state }) => state === 'active').length, 1);
      for (const { id } of roots) assert.match(id, /^r[0-9]{4,9}$/);
    } catch (error) {
      isFault('CORRUPT')(error);
    }
  }
});
