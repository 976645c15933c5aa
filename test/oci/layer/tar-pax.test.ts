import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ImgstoreError } from '../../../src/base/errors.ts';
import { type HeaderFields, paxTime, TarBuilder } from '../../support/tar-builder.ts';
import { readOne, readTar } from '../../support/tar-entries.ts';

type Records = readonly (readonly [string, string])[];

function withRecords(records: Records, fields: HeaderFields = { name: 'a' }, data = '') {
  return readOne(new TarBuilder().pax(records).entry(fields, data).end());
}

function withPayload(payload: string): Buffer {
  return new TarBuilder().entry({ name: 'x', type: 'x' }, payload).entry({ name: 'a' }).end();
}

function refused(tar: Buffer, message: RegExp): void {
  assert.throws(
    () => readTar(tar),
    error =>
      error instanceof ImgstoreError && error.code === 'CORRUPT' && message.test(error.message),
  );
}

test('records replace what the header says', () => {
  const entry = withRecords(
    [
      ['path', 'from/pax'],
      ['linkpath', 'to/pax'],
      ['uid', '4000000000'],
      ['gid', '3000000000'],
      ['mtime', '123456789.000000042'],
      ['comment', 'says nothing'],
      ['atime', 'not looked at'],
    ],
    { name: 'a', linkName: 'b', uid: 1, gid: 2, mtime: 3, type: '2' },
  );
  assert.equal(entry.path, 'from/pax');
  assert.equal(entry.linkPath, 'to/pax');
  assert.deepEqual([entry.uid, entry.gid], [4_000_000_000, 3_000_000_000]);
  assert.deepEqual([entry.mtimeSeconds, entry.mtimeNanoseconds], [123_456_789, 42]);
});

test('the size record is the size of the data', () => {
  const entry = withRecords([['size', '5']], { name: 'a', size: 0 }, 'hello');
  assert.equal(entry.sizeBytes, 5);
  assert.equal(entry.data.toString(), 'hello');
  assert.equal(withRecords([['size', '512']], { name: 'a', type: '5' }).sizeBytes, 0);
});

test('times have fractions and come before 1970', () => {
  const times: [text: string, seconds: number, nanoseconds: number][] = [
    ['0', 0, 0],
    ['-0', 0, 0],
    ['12.', 12, 0],
    ['1.5', 1, 500_000_000],
    ['1.0000000019', 1, 1],
    ['-1', -1, 0],
    ['-1.5', -2, 500_000_000],
    ['-0.25', -1, 750_000_000],
    ['-1.000000001', -2, 999_999_999],
  ];
  for (const [text, seconds, nanoseconds] of times) {
    const entry = withRecords([['mtime', text]]);
    assert.deepEqual([entry.mtimeSeconds, entry.mtimeNanoseconds], [seconds, nanoseconds], text);
    assert.ok(Object.is(entry.mtimeSeconds, seconds), 'no negative zero');
  }
  assert.equal(paxTime(-2, 500_000_000), '-1.500000000');
});

test('values that are no numbers are refused', () => {
  for (const value of ['x', '1e3', '1.5.2', '1.x', '.', '0x10', ' 1'])
    refused(
      new TarBuilder()
        .pax([['mtime', value]])
        .entry({})
        .end(),
      /mtime/,
    );
  for (const key of ['uid', 'gid', 'size'])
    refused(
      new TarBuilder()
        .pax([[key, '1.5']])
        .entry({})
        .end(),
      new RegExp(key),
    );
  refused(
    new TarBuilder()
      .pax([['size', '-1']])
      .entry({ name: 'a' })
      .end(),
    /negative/,
  );
});

test('an xattr is any bytes', () => {
  const value = Buffer.from([1, 0, 0, 2, 0xff, 0x80, 0x0a, 0x3d, 0, 0]).toString('latin1');
  const { xattrs } = withRecords([['SCHILY.xattr.security.capability', value]]);
  assert.deepEqual([...xattrs!], [['security.capability', value]]);
});

test('an empty value takes a record back, be it an xattr', () => {
  const entry = withRecords([
    ['path', 'first'],
    ['path', ''],
    ['SCHILY.xattr.user.a', '1'],
    ['SCHILY.xattr.user.b', '2'],
    ['SCHILY.xattr.user.a', ''],
  ]);
  assert.equal(entry.path, 'a');
  assert.deepEqual([...entry.xattrs!], [['user.b', '2']]);
});

test("libarchive's second form of an xattr counts where there is no first", () => {
  const { xattrs } = withRecords([
    ['LIBARCHIVE.xattr.user.a%3Db%25', Buffer.from('\xff\x00', 'latin1').toString('base64')],
    ['LIBARCHIVE.xattr.user.both', 'b3RoZXI'],
    ['SCHILY.xattr.user.both', 'this'],
  ]);
  assert.deepEqual(Object.fromEntries(xattrs!), { 'user.a=b%': '\xff\x00', 'user.both': 'this' });
  const bad = new TarBuilder().pax([['LIBARCHIVE.xattr.user.a', '!!']]).entry({ name: 'a' });
  refused(bad.end(), /malformed/);
});

test('a global header says nothing of any entry', () => {
  const tar = new TarBuilder()
    .pax([['path', 'global']], 'g')
    .entry({ name: 'a' })
    .end();
  assert.equal(readOne(tar).path, 'a');
});

test('records hold for the next entry, and the last header of several counts', () => {
  const tar = new TarBuilder()
    .pax([
      ['path', 'lost'],
      ['uid', '7'],
    ])
    .pax([['path', 'kept']])
    .entry({ name: 'a' })
    .entry({ name: 'b' });
  const entries = readTar(tar.end());
  assert.deepEqual(
    entries.map(({ path, uid }) => [path, uid]),
    [
      ['kept', 0],
      ['b', 0],
    ],
  );
});

test('malformed records are refused', () => {
  const payloads = [
    'no length=x\n',
    '12 path=abcd', // no newline
    '14 path=abcd\n', // one too long
    '12 path=abcd\n', // one too short
    '5 a=\n7 =b=c\n', // no key
    '7 abcd\n', // no value
    '0 a=b\n',
    ' a=b\n',
    '99999999999999 a=b\n',
    '6 a=b\n\0\0', // padding inside
    '-6 a=b\n',
    '14 path=ab\0cd\n',
  ];
  for (const payload of payloads) refused(withPayload(payload), /malformed/);
  assert.equal(readOne(withPayload('008 a=b\n')).path, 'a', 'this one is well-formed');
});
