/**
 * PAX headers as bytes. tar-stream writes the archive, but it encodes PAX values as UTF-8, which
 * damages names and extended attributes that are not text, so the headers that entries need are
 * made here and put in front of them. Source: POSIX.1-2017, pax, "Extended Header" and "ustar".
 */

import type { ByteString } from '../base/byte-string.ts';

const tarBlockBytes = 512;
/** Field widths of a ustar header as tar-stream fills them: six octal digits and a terminator. */
const headerNumberMax = 0o777777;
const headerNameMax = 100;
/** tar-stream cuts times to 32 bits. */
const headerTimeMax = 2 ** 31 - 1;

export interface PaxSubject {
  path: ByteString;
  linkPath: ByteString | undefined;
  uid: number;
  gid: number;
  mtimeSeconds: number;
  mtimeNanoseconds: number;
  xattrs: ReadonlyMap<ByteString, Uint8Array>;
}

/** A PAX header with what the entry's own header cannot hold, or undefined if it holds everything. */
export function paxHeader(subject: PaxSubject): Buffer | undefined {
  const records: Buffer[] = [];
  const add = (key: string, value: Uint8Array | string) => records.push(record(key, value));
  if (!fitsHeader(subject.path)) add('path', Buffer.from(subject.path, 'latin1'));
  if (subject.linkPath !== undefined && !fitsHeader(subject.linkPath)) {
    add('linkpath', Buffer.from(subject.linkPath, 'latin1'));
  }
  if (subject.uid > headerNumberMax) add('uid', String(subject.uid));
  if (subject.gid > headerNumberMax) add('gid', String(subject.gid));
  if (!timeFitsHeader(subject)) add('mtime', paxTime(subject));
  for (const [name, value] of subject.xattrs) {
    // An empty value means that there is none, and a key ends at the first equals sign: such
    // attributes are written as libarchive does, which quotes both.
    const isPlain = value.length > 0 && !name.includes('=');
    if (isPlain) add(`SCHILY.xattr.${name}`, value);
    else add(`LIBARCHIVE.xattr.${urlEncoded(name)}`, Buffer.from(value).toString('base64'));
  }
  return records.length === 0 ? undefined : headerEntry(Buffer.concat(records));
}

function urlEncoded(name: ByteString): string {
  return name.replace(
    /[^A-Za-z0-9._-]/g,
    c => `%${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`,
  );
}

/** The records as an entry of type `x`: one header block, then the records in whole blocks. */
function headerEntry(records: Buffer): Buffer {
  const entry = Buffer.alloc(
    tarBlockBytes + Math.ceil(records.length / tarBlockBytes) * tarBlockBytes,
  );
  const octal = (value: number, digits: number) => `${value.toString(8).padStart(digits, '0')}\0`;
  entry.write('PaxHeader', 0, 'latin1');
  entry.write(octal(0o644, 7), 100, 'latin1');
  entry.write(octal(0, 7), 108, 'latin1');
  entry.write(octal(0, 7), 116, 'latin1');
  entry.write(octal(records.length, 11), 124, 'latin1');
  entry.write(octal(0, 11), 136, 'latin1');
  entry.write('        x', 148, 'latin1'); // the checksum counts itself as spaces
  entry.write('ustar\x0000', 257, 'latin1');
  const sum = entry.subarray(0, tarBlockBytes).reduce((total, byte) => total + byte, 0);
  entry.write(octal(sum, 6), 148, 'latin1');
  records.copy(entry, tarBlockBytes);
  return entry;
}

/** What may stand in the header; otherwise a record holds it, and the header a stand-in. */
export function fitsHeader(path: ByteString): boolean {
  return path.length <= headerNameMax && /^[\x20-\x7e]*$/.test(path);
}

export function timeFitsHeader({ mtimeSeconds, mtimeNanoseconds }: PaxSubject): boolean {
  return mtimeNanoseconds === 0 && mtimeSeconds >= 0 && mtimeSeconds <= headerTimeMax;
}

export function headerNumber(value: number): number {
  return value > headerNumberMax ? 0 : value;
}

/** Decimal seconds; a fraction counts towards later times, so -1.5 s is second -2 and half of one. */
function paxTime({ mtimeSeconds, mtimeNanoseconds }: PaxSubject): string {
  if (mtimeNanoseconds === 0) return String(mtimeSeconds);
  const negative = mtimeSeconds < 0;
  const whole = negative ? -(mtimeSeconds + 1) : mtimeSeconds;
  const fraction = negative ? 1_000_000_000 - mtimeNanoseconds : mtimeNanoseconds;
  const digits = String(fraction).padStart(9, '0').replace(/0+$/, '');
  return `${negative ? '-' : ''}${whole}.${digits}`;
}

/** `LENGTH KEY=VALUE\n`, where LENGTH counts itself. */
function record(key: string, value: Uint8Array | string): Buffer {
  const body = Buffer.concat([
    Buffer.from(` ${key}=`, 'latin1'),
    typeof value === 'string' ? Buffer.from(value, 'latin1') : value,
    Buffer.from('\n'),
  ]);
  let length = body.length + String(body.length).length;
  if (String(length).length > String(body.length).length) length++;
  return Buffer.concat([Buffer.from(String(length)), body]);
}
