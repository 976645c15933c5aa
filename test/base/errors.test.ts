import assert from 'node:assert/strict';
import { test } from 'node:test';
import { getSystemErrorName } from 'node:util';
import { errnoOf, ImgstoreError, ioError } from '../../src/base/errors.ts';

/** As Node gives it for a number that libuv has no name for. */
function unnamed(errno: number): Error {
  const code = getSystemErrorName(-errno);
  return Object.assign(new Error(`${code}: ${code}, open '/x'`), { code, errno: -errno });
}

test('an operating-system error has its errno by name, also where Node has none', () => {
  const named = Object.assign(new Error('ENOENT: no such file'), { code: 'ENOENT' });
  assert.equal(errnoOf(named), 'ENOENT');
  assert.deepEqual(
    [74, 116, 117, 129].map(errno => errnoOf(unnamed(errno))),
    ['EBADMSG', 'ESTALE', 'EUCLEAN', 'E129'],
  );
  const io = ioError('Cannot read x', unnamed(116));
  assert.ok(io instanceof ImgstoreError && io.code === 'IO');
  assert.match(io.message, /^Cannot read x: the system says ESTALE$/);
});

test('an error of the program is none of the operating system', () => {
  const bugs = [
    new TypeError('x'),
    Object.assign(new Error('x'), { code: 'ERR_INVALID_ARG_TYPE' }),
  ];
  for (const bug of [...bugs, 'ENOENT', new ImgstoreError('IO', 'Cannot read x: ENOENT')]) {
    assert.equal(errnoOf(bug), undefined);
  }
});
