import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseChunkId, parseRecipeId } from '../../src/base/digest.ts';
import {
  checkStoreDocument,
  chunkIdOfObjectKey,
  chunkObjectKey,
  formatStoreDocument,
  leaseKey,
  leaseRenewalKey,
  nextRootId,
  parseLeaseKey,
  parseStateKey,
  type RootId,
  recipeObjectKey,
  stateKey,
} from '../../src/store/format.ts';
import { isFault } from '../contract/object-store.ts';

test('keys of chunks are pinned, and lead back to the id', () => {
  const id = parseChunkId('0123456789abcdef'.repeat(4));
  assert.equal(chunkObjectKey(id), `01/${id}`);
  assert.equal(chunkIdOfObjectKey(`01/${id}`), id);
  for (const key of [id, `02/${id}`, `01/${id}x`, `01/${id.slice(1)}`, `01/${id.toUpperCase()}`]) {
    assert.equal(chunkIdOfObjectKey(key), undefined, key);
  }
  assert.equal(recipeObjectKey(parseRecipeId(id)), id);
});

test('the store document is read as it is written, with fields that are not known', () => {
  checkStoreDocument(formatStoreDocument(), 'here');
  checkStoreDocument(Buffer.from('{"note":{"x":[1]},"format":1}'), 'here');
});

test('markers of roots are pinned and read back; what is none is foreign', () => {
  const root = 'r0001' as RootId;
  for (const fact of ['opened', 'expired', 'alarm', 'deleted'] as const) {
    assert.equal(stateKey(root, fact), `states/r0001.${fact}`);
    assert.deepEqual(parseStateKey(`r0001.${fact}`), { root, fact });
  }
  for (const key of [
    ...['', 'r0001', 'r0001.', 'r0001.open', 'r0001.openedx', 'R0001.opened', 'r1.opened'],
    ...['r00001.opened', 'r1234567890.opened', 'x/r0001.opened', 'r0001.opened\n', 'r-001.opened'],
  ]) {
    assert.equal(parseStateKey(key), undefined, key);
  }
});

test('keys of leases are pinned and read back; what is none is foreign', () => {
  const root = 'r0001' as RootId;
  const lease = '01234567-89ab-4cde-8f01-23456789abcd';
  assert.equal(leaseKey(root, lease), `pushes/r0001/${lease}`);
  assert.equal(leaseRenewalKey(root, lease), `pushes/r0001/${lease}.renewed`);
  for (const key of [leaseKey(root, lease), leaseRenewalKey(root, lease)]) {
    assert.deepEqual(parseLeaseKey(key), { root, lease });
  }
  for (const key of [
    ...['pushes/r0001/x', `pushes/r1/${lease}`, `pushes/r0001/${lease}.old`, `x/r0001/${lease}`],
    ...[`pushes/r0001/x/${lease}`, `pushes/r00001/${lease}`, `pushes/r0001/${lease}\n`, ''],
  ]) {
    assert.equal(parseLeaseKey(key), undefined, key);
  }
});

test('the next root has the next number, until there is none', () => {
  const next = (id: string) => nextRootId(id as RootId);
  assert.equal(next('r0001'), 'r0002');
  assert.equal(next('r9999'), 'r10000');
  assert.deepEqual(parseStateKey('r10000.opened'), { root: 'r10000', fact: 'opened' });
  assert.throws(() => next('r999999999'), isFault('LIMIT'));
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
