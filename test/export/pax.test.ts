import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ByteString, byteStringOfText, bytesOf } from '../../src/base/byte-string.ts';
import { paxHeader } from '../../src/export/pax.ts';
import { parsePax } from '../../src/oci/layer/tar-pax.ts';

function xattrsReadBack(xattrs: ReadonlyMap<ByteString, Uint8Array>) {
  const header = paxHeader({
    path: 'a' as ByteString,
    linkPath: undefined,
    uid: 0,
    gid: 0,
    mtimeSeconds: 0,
    mtimeNanoseconds: 0,
    xattrs,
  });
  assert.ok(header !== undefined);
  const sizeBytes = Number.parseInt(header.toString('latin1', 124, 135), 8);
  return parsePax(header.subarray(512, 512 + sizeBytes)).xattrs;
}

test('every attribute is read back, also what PAX has no plain way to write', () => {
  const xattrs = new Map<ByteString, Uint8Array>([
    [byteStringOfText('user.plain'), Buffer.from('value')],
    [byteStringOfText('user.binary'), Buffer.from([0, 0x0a, 0x80, 0xff])],
    [byteStringOfText('user.empty'), Buffer.alloc(0)],
    [byteStringOfText('user.a=b'), Buffer.from('x')],
    [byteStringOfText('user.100%=ä'), Buffer.alloc(0)],
  ]);
  const readBack = xattrsReadBack(xattrs);
  assert.equal(readBack?.size, xattrs.size);
  for (const [name, value] of xattrs) {
    assert.deepEqual(bytesOf(readBack.get(name)!), Buffer.from(value), name);
  }
});
