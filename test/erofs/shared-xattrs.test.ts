import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ByteString } from '../../src/base/byte-string.ts';
import { SharedXattrs } from '../../src/erofs/shared-xattrs.ts';
import { parseXattrBody } from '../../src/erofs/xattr.ts';

function xattrs(values: Record<string, string>): Map<ByteString, Buffer> {
  return new Map(
    Object.entries(values).map(([name, value]) => [name as ByteString, Buffer.from(value)]),
  );
}

function placedFor(inodes: readonly Map<ByteString, Buffer>[]) {
  const shared = new SharedXattrs();
  for (const inode of inodes) shared.count(inode, () => '/x');
  return { shared, areaSizeBytes: shared.place() };
}

test('a pair is shared when that is smaller, and only then', () => {
  const twice = xattrs({ 'user.a': 'some value' });
  assert.equal(placedFor([twice]).areaSizeBytes, 0);
  // Two entries of 8 bytes, or one and two ids: the same size.
  const small = xattrs({ 'user.a': 'x' });
  assert.equal(placedFor([small, small]).areaSizeBytes, 0);
  assert.equal(placedFor([small, small, small]).areaSizeBytes, 8);
  const { shared, areaSizeBytes } = placedFor([twice, xattrs({ 'user.a': 'some value' })]);
  assert.equal(areaSizeBytes, 16);
  assert.equal(shared.bodySizeBytes(twice), 12 + 4);
  assert.equal(shared.bodySizeBytes(new Map()), 0);
});

test('long values are told apart', () => {
  const one = xattrs({ 'user.a': `${'x'.repeat(500)}1` });
  const two = xattrs({ 'user.a': `${'x'.repeat(500)}2` });
  assert.equal(placedFor([one, two]).areaSizeBytes, 0);
  assert.equal(placedFor([one, two, one]).areaSizeBytes, 508);
});

test('a body is in the order of names, whatever that of the map', () => {
  const body = (values: Record<string, string>): Buffer => {
    const { shared } = placedFor([]);
    const inode = xattrs(values);
    const bytes = Buffer.alloc(shared.bodySizeBytes(inode));
    shared.writeBody(bytes, 0, inode);
    return bytes;
  };
  const ordered = body({ 'security.s': '1', 'user.a': '2', 'user.b': '3' });
  assert.deepEqual(body({ 'user.b': '3', 'security.s': '1', 'user.a': '2' }), ordered);
  const names = parseXattrBody(ordered, 'it').own.map(({ name }) => name);
  assert.deepEqual(names, ['security.s', 'user.a', 'user.b']);
});

test('an inode refers to 255 shared entries at most', () => {
  const many = xattrs(
    Object.fromEntries(Array.from({ length: 260 }, (_, i) => [`user.${i}`, `value of ${i}`])),
  );
  const { shared } = placedFor([many, many]);
  const bytes = Buffer.alloc(shared.bodySizeBytes(many));
  shared.writeBody(bytes, 0, many);
  const { sharedIds, own } = parseXattrBody(bytes, 'it');
  assert.equal(sharedIds.length, 255);
  assert.equal(own.length, 5);
});
