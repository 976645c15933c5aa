/**
 * PAX extended header records: `LENGTH KEY=VALUE\n`, LENGTH counting itself.
 *
 * Values are bytes and may hold newlines and NULs (xattrs do); a later record of a key replaces an
 * earlier one, and an empty value takes it back. Only keys that say something about a file in an
 * image are kept. Source: POSIX pax, "pax Extended Header"; Go's archive/tar for what container
 * runtimes make of it.
 */

import { type ByteString, byteString } from '../../base/byte-string.ts';
import { EntryFault } from './fault.ts';
import { parseDecimal, parsePaxTime, type TarTime } from './tar-number.ts';

export interface PaxRecords {
  path: ByteString | undefined;
  linkPath: ByteString | undefined;
  sizeBytes: number | undefined;
  uid: number | undefined;
  gid: number | undefined;
  mtime: TarTime | undefined;
  /** Name to value. */
  xattrs: Map<ByteString, ByteString> | undefined;
  sparse: PaxSparse | undefined;
}

/** GNU.sparse.* as written; sparse version 0.0 gives `pairs`, 0.1 `map`, 1.0 neither. */
export interface PaxSparse {
  major: string;
  minor: string;
  name: ByteString;
  size: string;
  realSize: string;
  blockCount: string;
  map: string;
  /** offset, length, offset, length … */
  pairs: string[];
}

const xattrPrefix = 'SCHILY.xattr.';
const libarchiveXattrPrefix = 'LIBARCHIVE.xattr.';
const sparsePrefix = 'GNU.sparse.';

/** Throws EntryFault on any malformed record. */
export function parsePax(payload: Buffer): PaxRecords {
  const text = byteString(payload);
  const records: PaxRecords = {
    path: undefined,
    linkPath: undefined,
    sizeBytes: undefined,
    uid: undefined,
    gid: undefined,
    mtime: undefined,
    xattrs: undefined,
    sparse: undefined,
  };
  const fallbackXattrs = new Map<ByteString, ByteString>();
  for (let at = 0; at < text.length; ) {
    const end = recordEnd(text, at);
    const keyAt = text.indexOf(' ', at) + 1;
    const equals = text.indexOf('=', keyAt);
    if (equals <= keyAt || equals >= end) throw malformed();
    const key = text.slice(keyAt, equals);
    const value = text.slice(equals + 1, end - 1) as ByteString;
    if (key.startsWith(libarchiveXattrPrefix)) addLibarchiveXattr(fallbackXattrs, key, value);
    else addRecord(records, key, value);
    at = end;
  }
  for (const [name, value] of fallbackXattrs) {
    records.xattrs ??= new Map();
    if (!records.xattrs.has(name)) records.xattrs.set(name, value);
  }
  return records;
}

/** Where the record at `at` ends, its newline included. */
function recordEnd(text: string, at: number): number {
  let length = 0;
  let i = at;
  for (; i < at + 8; i++) {
    const digit = text.charCodeAt(i) - 0x30;
    if (!(digit >= 0 && digit <= 9)) break;
    length = length * 10 + digit;
  }
  const end = at + length;
  const shortest = '5 k=\n'.length;
  if (i === at || text[i] !== ' ' || length < shortest || end > text.length) throw malformed();
  if (text[end - 1] !== '\n') throw malformed();
  return end;
}

function malformed(): EntryFault {
  return new EntryFault('CORRUPT', 'a record of a PAX header is malformed');
}

function addRecord(records: PaxRecords, key: string, value: ByteString): void {
  const given = value === '' ? undefined : value;
  switch (key) {
    case 'path':
      records.path = withoutNul(given);
      return;
    case 'linkpath':
      records.linkPath = withoutNul(given);
      return;
    case 'size':
      records.sizeBytes = given && parseDecimal(given, 'size');
      return;
    case 'uid':
      records.uid = given && parseDecimal(given, 'uid');
      return;
    case 'gid':
      records.gid = given && parseDecimal(given, 'gid');
      return;
    case 'mtime':
      records.mtime = given && parsePaxTime(given);
      return;
    default:
      if (key.startsWith(xattrPrefix)) addXattr(records, key.slice(xattrPrefix.length), given);
      else if (key.startsWith(sparsePrefix)) addSparse(records, key, value);
  }
}

function withoutNul(value: ByteString | undefined): ByteString | undefined {
  if (value?.includes('\0')) throw malformed();
  return value;
}

/** An empty value takes the record back, as in every PAX record: xattrs are no exception in Go. */
function addXattr(records: PaxRecords, name: string, value: ByteString | undefined): void {
  records.xattrs ??= new Map();
  if (value === undefined) records.xattrs.delete(name as ByteString);
  else records.xattrs.set(name as ByteString, value);
}

/** libarchive writes xattrs a second time: the name URL-encoded, the value in base64. */
function addLibarchiveXattr(xattrs: Map<ByteString, ByteString>, key: string, value: string): void {
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(value)) throw malformed();
  const encoded = key.slice(libarchiveXattrPrefix.length);
  const name = encoded.replace(/%([0-9A-Fa-f]{2})/g, (_, hex) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  xattrs.set(name as ByteString, byteString(Buffer.from(value, 'base64')));
}

function addSparse(records: PaxRecords, key: string, value: ByteString): void {
  records.sparse ??= {
    major: '',
    minor: '',
    name: '' as ByteString,
    size: '',
    realSize: '',
    blockCount: '',
    map: '',
    pairs: [],
  };
  const sparse = records.sparse;
  switch (key.slice(sparsePrefix.length)) {
    case 'major':
      sparse.major = value;
      return;
    case 'minor':
      sparse.minor = value;
      return;
    case 'name':
      sparse.name = withoutNul(value)!;
      return;
    case 'size':
      sparse.size = value;
      return;
    case 'realsize':
      sparse.realSize = value;
      return;
    case 'numblocks':
      sparse.blockCount = value;
      return;
    case 'map':
      sparse.map = value;
      return;
    case 'offset':
      if (sparse.pairs.length % 2 !== 0) throw malformed();
      sparse.pairs.push(value);
      return;
    case 'numbytes':
      if (sparse.pairs.length % 2 !== 1) throw malformed();
      sparse.pairs.push(value);
  }
}
