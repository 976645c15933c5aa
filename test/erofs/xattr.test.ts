import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ByteString } from '../../src/base/byte-string.ts';
import {
  parseXattrBody,
  parseXattrEntry,
  parseXattrEntrySize,
  splitXattrName,
  writeXattrEntry,
} from '../../src/erofs/xattr.ts';
import { seeded } from '../support/random.ts';

const split = (name: string) => splitXattrName(name as ByteString);

test('names are split by namespace; those that Linux would not show are none', () => {
  assert.deepEqual(split('user.x'), { index: 1, suffix: 'x' });
  assert.deepEqual(split('trusted.user.x'), { index: 4, suffix: 'user.x' });
  assert.deepEqual(split('security.capability'), { index: 6, suffix: 'capability' });
  assert.deepEqual(split('system.posix_acl_access'), { index: 2, suffix: '' });
  assert.deepEqual(split('system.posix_acl_default'), { index: 3, suffix: '' });
  for (const name of ['', 'user', 'user.', 'system.posix_acl_accessx', 'system.x', 'lustre.x', 'x'])
    assert.equal(split(name), undefined, name);
});

test('entries come back', () => {
  for (const random of seeded(200)) {
    const prefix = random.pick(['user.', 'trusted.', 'security.']);
    const name = `${prefix}${random.text(random.between(1, 200), 'ab.\xff')}` as ByteString;
    const value = random.bytes(random.below(5000));
    const target = Buffer.alloc(6000);
    const end = writeXattrEntry(target, 100, splitXattrName(name)!, value);
    assert.equal(end % 4, 0);
    const bytes = target.subarray(100, end);
    assert.equal(parseXattrEntrySize(bytes.subarray(0, 4)), bytes.length);
    assert.deepEqual(parseXattrEntry(bytes, 'it'), { name, value }, `seed ${random.seed}`);
    assert.ok(target.subarray(end).every(byte => byte === 0));
  }
});

test('damaged bodies are refused by their reason', () => {
  const body = Buffer.alloc(12 + 4 + 12);
  body.writeUInt8(1, 4);
  body.writeUInt32LE(77, 12);
  writeXattrEntry(body, 16, split('user.abc')!, Buffer.from('value'));
  const read = parseXattrBody(body, 'it');
  assert.deepEqual(read.sharedIds, [77]);
  assert.deepEqual(read.own, [{ name: 'user.abc', value: Buffer.from('value') }]);
  const refused = (at: number, byte: number, message: RegExp): void => {
    const damaged = Buffer.from(body);
    damaged[at] = byte;
    assert.throws(() => parseXattrBody(damaged, 'it'), { code: 'CORRUPT', message });
  };
  refused(4, 5, /do not fit/);
  refused(16, 200, /reaches beyond/);
  refused(18, 200, /reaches beyond/);
  refused(17, 0, /namespace 0/);
  refused(17, 0x81, /namespace 129/);
  refused(17, 2, /none can have/);
  refused(20, 0, /none can have/);
});
