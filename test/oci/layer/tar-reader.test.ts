import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytesOf } from '../../../src/base/byte-string.ts';
import { ImgstoreError } from '../../../src/base/errors.ts';
import { base256, type HeaderFields, TarBuilder } from '../../support/tar-builder.ts';
import { readOne, readTar } from '../../support/tar-entries.ts';

function one(fields: HeaderFields, data = '') {
  return readOne(new TarBuilder().entry(fields, data).end());
}

function fails(tar: Buffer, code: ImgstoreError['code'], message: RegExp): void {
  assert.throws(
    () => readTar(tar),
    error => error instanceof ImgstoreError && error.code === code && message.test(error.message),
  );
}

test('a ustar header gives every field', () => {
  const entry = one(
    { name: 'dir/file', mode: 0o4755, uid: 12, gid: 34, mtime: 1_234_567_890 },
    'content',
  );
  assert.equal(entry.type, 'file');
  assert.equal(entry.path, 'dir/file');
  assert.equal(entry.mode, 0o4755);
  assert.deepEqual([entry.uid, entry.gid], [12, 34]);
  assert.deepEqual([entry.mtimeSeconds, entry.mtimeNanoseconds], [1_234_567_890, 0]);
  assert.equal(entry.sizeBytes, 7);
  assert.equal(entry.runs, undefined);
  assert.equal(entry.data.toString(), 'content');
});

test('names fill their fields without a NUL', () => {
  const name = 'n'.repeat(100);
  const link = 'l'.repeat(100);
  const entry = one({ name, linkName: link, type: '2' });
  assert.equal(entry.path, name);
  assert.equal(entry.linkPath, link);
});

test('every type has its name, and only files have data', () => {
  const types = { 1: 'hard-link', 2: 'symlink', 3: 'character-device', 4: 'block-device' };
  for (const [type, name] of Object.entries({ ...types, 5: 'directory', 6: 'fifo' })) {
    // The size field of such entries says nothing: old pax wrote it for hard links without data.
    const tar = new TarBuilder().entry({ name: 'a', type, size: 512 }).entry({ name: 'b' }).end();
    assert.deepEqual(
      readTar(tar).map(entry => [entry.path, entry.type, entry.sizeBytes]),
      [
        ['a', name, 0],
        ['b', 'file', 0],
      ],
    );
  }
});

test("a contiguous file is a file, and so is one of type '\\0'", () => {
  assert.equal(one({ name: 'a', type: '7' }, 'data').data.toString(), 'data');
  assert.equal(one({ name: 'a', type: '\0', format: 'v7' }, 'data').data.toString(), 'data');
});

test('a v7 file whose name ends in a slash is a directory, a POSIX one is not', () => {
  assert.equal(one({ name: 'a/', type: '\0', format: 'v7' }).type, 'directory');
  assert.equal(one({ name: 'a/', type: '0' }).type, 'file');
});

test('device numbers are read except from v7', () => {
  const device = one({ name: 'a', type: '3', major: 4, minor: 64 });
  assert.deepEqual([device.major, device.minor], [4, 64]);
  const old = one({ name: 'a', type: '3', format: 'v7' });
  assert.deepEqual([old.major, old.minor], [0, 0]);
});

test('the prefix is joined in POSIX and star headers', () => {
  const long = 'p'.repeat(155);
  assert.equal(one({ name: 'name', prefix: long }).path, `${long}/name`);
  assert.equal(one({ name: 'name', prefix: 'star', format: 'star' }).path, 'star/name');
  // star's times follow its shorter prefix.
  const star = one({
    name: 'name',
    format: 'star',
    prefix: 'p'.repeat(131),
    patch: block => block.write('00000000001 00000000002 ', 476, 'latin1'),
  });
  assert.equal(star.path, `${'p'.repeat(131)}/name`);
});

test("GNU's times are not taken for a prefix", () => {
  const times = (block: Buffer) => block.write('14000000000\x0014000000000\x00', 345, 'latin1');
  assert.equal(one({ name: 'name', format: 'gnu', patch: times }).path, 'name');
  const binary = (block: Buffer) => base256(-5n, 12).copy(block, 345);
  assert.equal(one({ name: 'name', format: 'gnu', patch: binary }).path, 'name');
});

test("the prefix that Go's old writer put under GNU's magic is found", () => {
  const prefix = (block: Buffer) => block.write('usr/share/doc', 345, 'latin1');
  assert.equal(one({ name: 'name', format: 'gnu', patch: prefix }).path, 'usr/share/doc/name');
  const garbage = (block: Buffer) => block.write('usr\xff', 345, 'latin1');
  assert.equal(one({ name: 'name', format: 'gnu', patch: garbage }).path, 'name');
});

test('checksums may be of signed bytes, not wrong', () => {
  assert.equal(one({ name: 'a\xe4', checksum: 'signed' }).path, 'a\xe4');
  fails(new TarBuilder().entry({ name: 'a', checksum: 'wrong' }).end(), 'CORRUPT', /checksum/);
});

test('numbers may be padded in any way, or binary', () => {
  const mtimes: [Buffer | number, number][] = [
    [Buffer.from('        755 '), 0o755],
    [Buffer.from('\x00\x00755\x00junk!', 'latin1'), 0o755],
    [Buffer.alloc(12), 0],
    [Buffer.from('            '), 0],
    [Buffer.from('777777777777'), 0o777777777777],
    [base256(1n, 12), 1],
    [base256(2n ** 53n - 1n, 12), 2 ** 53 - 1],
    [base256(-1n, 12), -1],
    [base256(-(2n ** 40n), 12), -(2 ** 40)],
  ];
  for (const [mtime, expected] of mtimes)
    assert.equal(one({ name: 'a', mtime }).mtimeSeconds, expected);
  assert.equal(one({ name: 'a', uid: base256(4_000_000_000n, 8) }).uid, 4_000_000_000);
});

test('numbers that are none are refused', () => {
  for (const text of ['75x', '8', '-1', '7 7', '0x1f'])
    fails(new TarBuilder().entry({ name: 'a', uid: Buffer.from(text) }).end(), 'CORRUPT', /number/);
  const huge = new TarBuilder().entry({ name: 'a', mtime: base256(2n ** 60n, 12) }).end();
  fails(huge, 'LIMIT', /2\^53/);
  const negative = new TarBuilder().entry({ name: 'a', size: base256(-512n, 12) }).end();
  fails(negative, 'CORRUPT', /negative/);
});

test('a GNU long name and long link replace those of the header', () => {
  const name = `${'n'.repeat(300)}\xfe`;
  const target = 't'.repeat(400);
  const tar = new TarBuilder().longName(name).longName(target, 'K');
  const entry = readOne(tar.entry({ name: 'short', linkName: 'x', type: '2' }).end());
  assert.equal(entry.path, name);
  assert.equal(entry.linkPath, target);
});

test('a long name holds for one entry, and beats a PAX path', () => {
  const tar = new TarBuilder().longName('long').pax([['path', 'pax']]);
  const entries = readTar(tar.entry({ name: 'a' }).entry({ name: 'b' }).end());
  assert.deepEqual(
    entries.map(entry => entry.path),
    ['long', 'b'],
  );
});

test('the archive ends at two zero blocks, and what follows is swallowed', () => {
  const tar = new TarBuilder().entry({ name: 'a' }, 'data');
  assert.equal(readTar(Buffer.concat([tar.end(), Buffer.alloc(10_000, 'x')])).length, 1);
  assert.equal(readTar(tar.end(1)).length, 1, 'one zero block at the end of the bytes');
  assert.equal(readTar(tar.end(0)).length, 1, 'no zero block');
  assert.equal(readTar(tar.end(0).subarray(0, 516)).length, 1, 'no padding');
  assert.deepEqual(readTar(Buffer.alloc(0)), []);
  assert.deepEqual(readTar(Buffer.alloc(1024)), []);
});

test('a lone zero block before another header is refused', () => {
  const tar = new TarBuilder().entry({ name: 'a' }).raw(Buffer.alloc(512)).entry({ name: 'b' });
  fails(tar.end(), 'CORRUPT', /after entry a: a lone zero block/);
});

test('an archive that stops anywhere else is refused', () => {
  const tar = new TarBuilder()
    .pax([['path', 'x']])
    .entry({ name: 'a' }, 'd'.repeat(700))
    .end(0);
  const dataEnd = 3 * 512 + 700;
  for (let length = 1; length < tar.length; length += 13) {
    if (length >= dataEnd) assert.equal(readTar(tar.subarray(0, length)).length, 1);
    else fails(tar.subarray(0, length), 'CORRUPT', /stops in the middle/);
  }
  fails(tar.subarray(0, 1024), 'CORRUPT', /stops in the middle/);
});

test('types that no layer has are refused by name', () => {
  for (const type of ['V', 'M', 'D', 'A', '9', '\xff'])
    fails(
      new TarBuilder().entry({ name: 'odd', type }).end(),
      'UNSUPPORTED',
      /entry odd: tar type/,
    );
});

test('sizes beyond a disk are refused before their data', () => {
  const tar = new TarBuilder().entry({ name: 'a', size: base256(2n ** 45n, 12) });
  fails(tar.end(), 'LIMIT', /entry a: it is larger/);
});

test('extended headers beyond a megabyte are refused before they are read', () => {
  for (const type of ['x', 'g', 'L', 'K'])
    fails(
      new TarBuilder().entry({ type, size: 1024 * 1024 + 1 }).end(),
      'LIMIT',
      /extended header/,
    );
});

test('the size of the buffers makes no difference', () => {
  const tar = new TarBuilder()
    .pax([
      ['path', `long/${'p'.repeat(900)}`],
      ['SCHILY.xattr.user.x', '\x00\xff\n'],
    ])
    .entry({ name: 'a' }, 'x'.repeat(1500))
    .longName('gnu')
    .entry({ name: 'b' }, 'y'.repeat(512))
    .entry({ name: 'c/', type: '5' })
    .entry({ name: 'd' }, 'z')
    .end();
  const whole = readTar(tar);
  assert.equal(whole.length, 4);
  for (const bufferBytes of [1, 7, 100, 511, 512, 513, 1024, 5000])
    assert.deepEqual(readTar(tar, bufferBytes), whole, `buffers of ${bufferBytes}`);
});

test('names and values keep their bytes', () => {
  const path = 'caf\xe9/\xff\x01\n';
  const entry = readOne(
    new TarBuilder()
      .pax([['path', path]])
      .entry({ name: 'a' })
      .end(),
  );
  assert.equal(entry.path, path);
  assert.deepEqual([...bytesOf(entry.path)].slice(3, 6), [0xe9, 0x2f, 0xff]);
});
