/** One 512-byte tar header as values: v7, ustar, star and GNU. */

import type { ByteString } from '../../base/byte-string.ts';
import { EntryFault } from './fault.ts';
import * as at from './tar-format.ts';
import { parseNumber } from './tar-number.ts';

export type TarFormat = 'v7' | 'ustar' | 'star' | 'gnu';

export interface TarHeader {
  format: TarFormat;
  /** The type byte. */
  type: number;
  name: ByteString;
  linkName: ByteString;
  mode: number;
  uid: number;
  gid: number;
  sizeBytes: number;
  mtimeSeconds: number;
}

/** Throws EntryFault if the checksum or a number is wrong. */
export function readHeader(block: Buffer, start: number): TarHeader {
  verifyChecksum(block, start);
  const format = formatOf(block, start);
  const name = cString(block, start + at.nameAt, at.nameLength);
  const prefix = prefixOf(block, start, format);
  return {
    format,
    type: block[start + at.typeAt]!,
    name: prefix === '' ? name : (`${prefix}/${name}` as ByteString),
    linkName: cString(block, start + at.linkNameAt, at.linkNameLength),
    mode: parseNumber(block, start + at.modeAt, at.modeLength),
    uid: parseNumber(block, start + at.uidAt, at.idLength),
    gid: parseNumber(block, start + at.gidAt, at.idLength),
    sizeBytes: parseNumber(block, start + at.sizeAt, at.longNumberLength),
    mtimeSeconds: parseNumber(block, start + at.mtimeAt, at.longNumberLength),
  };
}

export function readDeviceNumbers(
  block: Buffer,
  start: number,
  format: TarFormat,
): { major: number; minor: number } {
  if (format === 'v7') return { major: 0, minor: 0 };
  return {
    major: parseNumber(block, start + at.deviceMajorAt, at.deviceLength),
    minor: parseNumber(block, start + at.deviceMinorAt, at.deviceLength),
  };
}

export function isZeroBlock(block: Buffer, start: number): boolean {
  for (let i = start; i < start + at.blockBytes; i++) if (block[i] !== 0) return false;
  return true;
}

/** The sum of all bytes, the checksum's own as spaces; old tars summed signed bytes. */
function verifyChecksum(block: Buffer, start: number): void {
  let sum = 0;
  let highBytes = 0;
  for (let i = start; i < start + at.blockBytes; i++) {
    const byte = block[i]!;
    sum += byte;
    highBytes += byte >> 7;
  }
  for (let i = start + at.checksumAt; i < start + at.checksumAt + at.checksumLength; i++) {
    sum += 0x20 - block[i]!;
    highBytes -= block[i]! >> 7;
  }
  const stored = parseNumber(block, start + at.checksumAt, at.checksumLength);
  if (stored !== sum && stored !== sum - 256 * highBytes)
    throw new EntryFault('CORRUPT', 'a header has a wrong checksum');
}

function formatOf(block: Buffer, start: number): TarFormat {
  const magicAt = start + at.magicAt;
  const magic = block.toString('latin1', magicAt, magicAt + at.magicLength);
  if (magic === at.gnuMagic) return 'gnu';
  if (magic !== at.posixMagic) return 'v7';
  const last = block.toString('latin1', start + at.starMagicAt, start + at.blockBytes);
  return last === at.starMagic ? 'star' : 'ustar';
}

function prefixOf(block: Buffer, start: number, format: TarFormat): string {
  const prefixAt = start + at.prefixAt;
  if (format === 'v7' || block[prefixAt] === 0) return '';
  if (format === 'ustar') return cString(block, prefixAt, at.prefixLength);
  if (format === 'star') return cString(block, prefixAt, at.starPrefixLength);
  return prefixOfOldGo(block, start);
}

/**
 * GNU has no prefix, but Go's writer up to 1.7, and so Docker of that time, wrote one under GNU's
 * magic. Go's reader takes it for a prefix where the fields cannot be GNU's times; so do we.
 */
function prefixOfOldGo(block: Buffer, start: number): string {
  try {
    parseNumber(block, start + at.gnuAccessTimeAt, at.longNumberLength);
    if (block[start + at.gnuChangeTimeAt] !== 0)
      parseNumber(block, start + at.gnuChangeTimeAt, at.longNumberLength);
    return '';
  } catch {
    const prefix = cString(block, start + at.prefixAt, at.prefixLength);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: ASCII is 0 to 127
    return /^[\x00-\x7f]*$/.test(prefix) ? prefix : '';
  }
}

/** Bytes up to the first NUL, at most `length`. */
export function cString(block: Buffer, start: number, length: number): ByteString {
  let end = start;
  while (end < start + length && block[end] !== 0) end++;
  return block.toString('latin1', start, end) as ByteString;
}
