/** Numbers as tar writes them: octal text, base-256, and the decimals and times of PAX records. */

import type { ByteString } from '../../base/byte-string.ts';
import { EntryFault } from './fault.ts';

const space = 0x20;
const zero = 0x30;

/**
 * A numeric header field: octal between spaces and NULs (empty is 0), or, if the first bit is set,
 * two's complement in base 256. Throws EntryFault on anything else and beyond ±2^53.
 */
export function parseNumber(block: Buffer, at: number, length: number): number {
  if ((block[at]! & 0x80) !== 0) return parseBase256(block, at, length);
  const end = at + length;
  let i = at;
  while (i < end && (block[i] === space || block[i] === 0)) i++;
  let value = 0;
  for (; i < end; i++) {
    const digit = block[i]! - zero;
    if (digit < 0 || digit > 7) break;
    value = value * 8 + digit;
  }
  // A NUL ends the field whatever follows; after a space only padding may.
  if (i === end || block[i] === 0) return value;
  if (block[i] !== space) throw new EntryFault('CORRUPT', 'a number in a header is malformed');
  for (; i < end; i++) {
    if (block[i] !== space && block[i] !== 0)
      throw new EntryFault('CORRUPT', 'a number in a header is malformed');
  }
  return value;
}

function parseBase256(block: Buffer, at: number, length: number): number {
  // A negative number is the complement of a positive one: ~x = -x - 1.
  const invert = (block[at]! & 0x40) === 0 ? 0 : 0xff;
  let value = (block[at]! ^ invert) & 0x3f;
  for (let i = at + 1; i < at + length; i++) {
    value = value * 256 + (block[i]! ^ invert);
    if (value > Number.MAX_SAFE_INTEGER)
      throw new EntryFault('LIMIT', 'a number in a header is beyond 2^53');
  }
  return invert === 0 ? value : -value - 1;
}

/** A PAX record's integer, within ±2^53. */
export function parseDecimal(text: string, what: string): number {
  if (!/^[+-]?[0-9]{1,19}$/.test(text)) throw new EntryFault('CORRUPT', `its ${what} is no number`);
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new EntryFault('LIMIT', `its ${what} is beyond 2^53`);
  return value;
}

export interface TarTime {
  seconds: number;
  /** 0 to 999,999,999, also before 1970: it counts up from `seconds`. */
  nanoseconds: number;
}

/** A PAX time: decimal seconds, perhaps negative, with a fraction of any length. */
export function parsePaxTime(text: ByteString): TarTime {
  const [whole = '', fraction = '', ...rest] = text.split('.');
  if (rest.length > 0 || !/^[0-9]*$/.test(fraction))
    throw new EntryFault('CORRUPT', 'its mtime is no number');
  const seconds = parseDecimal(whole, 'mtime');
  const nanoseconds = Number(fraction.slice(0, 9).padEnd(9, '0'));
  if (!whole.startsWith('-') || nanoseconds === 0) return { seconds: seconds + 0, nanoseconds };
  return { seconds: seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds };
}
