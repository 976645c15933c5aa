/**
 * Extended attributes as bytes: an entry is 4 bytes of header, the name without its namespace, the
 * value, and zeros to a multiple of 4. An inode's body is a header, ids of shared entries, then
 * entries of its own.
 */

import { type ByteString, byteString } from '../base/byte-string.ts';
import { ImgstoreError } from '../base/errors.ts';
import {
  alignUp,
  xattrEntryAt,
  xattrEntryHeaderSizeBytes,
  xattrHeaderSharedCountAt,
  xattrHeaderSizeBytes,
  xattrUnitBytes,
} from './format.ts';

interface Namespace {
  index: number;
  /** All of the name up to the suffix. */
  prefix: string;
  /** The name is the prefix and nothing else. */
  whole: boolean;
  /** Linux shows it; `lustre.` can be stored but no kernel gives it back. */
  written: boolean;
}

const namespaces: readonly Namespace[] = [
  { index: 1, prefix: 'user.', whole: false, written: true },
  { index: 2, prefix: 'system.posix_acl_access', whole: true, written: true },
  { index: 3, prefix: 'system.posix_acl_default', whole: true, written: true },
  { index: 4, prefix: 'trusted.', whole: false, written: true },
  { index: 5, prefix: 'lustre.', whole: false, written: false },
  { index: 6, prefix: 'security.', whole: false, written: true },
];

export interface SplitName {
  index: number;
  suffix: string;
}

/** Undefined for a name that EROFS cannot hold or that Linux would not show. */
export function splitXattrName(name: ByteString): SplitName | undefined {
  for (const { index, prefix, whole, written } of namespaces) {
    if (!written || !name.startsWith(prefix)) continue;
    if (whole === (name.length === prefix.length))
      return { index, suffix: name.slice(prefix.length) };
  }
  return undefined;
}

export function xattrEntrySizeBytes(suffixLength: number, valueLength: number): number {
  return alignUp(xattrEntryHeaderSizeBytes + suffixLength + valueLength, xattrUnitBytes);
}

/** Writes one entry to zeroed bytes and returns where the next begins. */
export function writeXattrEntry(
  target: Buffer,
  at: number,
  name: SplitName,
  value: Uint8Array,
): number {
  target.writeUInt8(name.suffix.length, at + xattrEntryAt.nameLength);
  target.writeUInt8(name.index, at + xattrEntryAt.nameIndex);
  target.writeUInt16LE(value.length, at + xattrEntryAt.valueSize);
  const suffixAt = at + xattrEntryHeaderSizeBytes;
  target.write(name.suffix, suffixAt, 'latin1');
  target.set(value, suffixAt + name.suffix.length);
  return at + xattrEntrySizeBytes(name.suffix.length, value.length);
}

export interface XattrEntry {
  name: ByteString;
  value: Buffer;
}

/** Size of the entry whose header is given, padding included. */
export function parseXattrEntrySize(header: Buffer): number {
  return xattrEntrySizeBytes(
    header.readUInt8(xattrEntryAt.nameLength),
    header.readUInt16LE(xattrEntryAt.valueSize),
  );
}

/** Reads an entry of exactly these bytes. CORRUPT if its namespace or name cannot be. */
export function parseXattrEntry(bytes: Buffer, what: string): XattrEntry {
  const nameLength = bytes.readUInt8(xattrEntryAt.nameLength);
  const nameIndex = bytes.readUInt8(xattrEntryAt.nameIndex);
  const namespace = namespaces.find(({ index }) => index === nameIndex);
  if (namespace === undefined) throw corrupt(what, `an attribute has the namespace ${nameIndex}`);
  const valueAt = xattrEntryHeaderSizeBytes + nameLength;
  const suffix = byteString(bytes.subarray(xattrEntryHeaderSizeBytes, valueAt));
  if (suffix.includes('\0') || (suffix === '') !== namespace.whole)
    throw corrupt(what, 'an attribute has a name that none can have');
  const valueEnd = valueAt + bytes.readUInt16LE(xattrEntryAt.valueSize);
  return {
    name: `${namespace.prefix}${suffix}` as ByteString,
    value: Buffer.from(bytes.subarray(valueAt, valueEnd)),
  };
}

/** An inode's xattr body: ids of shared entries, and its own. CORRUPT if they do not fit. */
export function parseXattrBody(
  body: Buffer,
  what: string,
): { sharedIds: number[]; own: XattrEntry[] } {
  const sharedCount = body.readUInt8(xattrHeaderSharedCountAt);
  let at = xattrHeaderSizeBytes + sharedCount * xattrUnitBytes;
  if (at > body.length) throw corrupt(what, 'its shared attributes do not fit');
  const sharedIds = Array.from({ length: sharedCount }, (_, i) =>
    body.readUInt32LE(xattrHeaderSizeBytes + i * xattrUnitBytes),
  );
  const own: XattrEntry[] = [];
  while (at < body.length) {
    const end = at + parseXattrEntrySize(body.subarray(at, at + xattrEntryHeaderSizeBytes));
    if (end > body.length) throw corrupt(what, 'an attribute reaches beyond its list');
    own.push(parseXattrEntry(body.subarray(at, end), what));
    at = end;
  }
  return { sharedIds, own };
}

function corrupt(what: string, state: string): ImgstoreError {
  return new ImgstoreError('CORRUPT', `Cannot read the extended attributes of ${what}: ${state}`);
}
