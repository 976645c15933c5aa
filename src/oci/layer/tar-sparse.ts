/**
 * GNU tar's four ways to write where the data of a sparse file belongs: the old format (pairs in
 * the header and in blocks after it), and PAX versions 0.0, 0.1 (records) and 1.0 (text in front of
 * the data). All give the data runs of a file of the real size.
 *
 * Source: GNU tar manual, "Storing Sparse Files"; validity as in Go's archive/tar.
 */

import { diskSizeMaxBytes, sparseExtentsMax } from '../../base/limits.ts';
import type { DataRun } from '../../tree/tree.ts';
import { EntryFault } from './fault.ts';
import { longNumberLength } from './tar-format.ts';
import { parseDecimal, parseNumber } from './tar-number.ts';
import type { PaxSparse } from './tar-pax.ts';

/** offset, length, offset, length … as they stand in the archive. */
export type SparsePairs = number[];

const newline = 0x0a;
const zero = 0x30;

function malformed(): EntryFault {
  return new EntryFault('CORRUPT', 'its sparse map is malformed');
}

/** Up to `count` pairs of the old format at `at`; a NUL as an offset's first byte ends them. */
export function readOldPairs(block: Buffer, at: number, count: number, pairs: SparsePairs): void {
  const pairLength = 2 * longNumberLength;
  for (let i = 0; i < count; i++) {
    const offsetAt = at + i * pairLength;
    if (block[offsetAt] === 0) return;
    const offset = parseNumber(block, offsetAt, longNumberLength);
    const length = parseNumber(block, offsetAt + longNumberLength, longNumberLength);
    addPair(pairs, offset, length);
  }
}

function addPair(pairs: SparsePairs, offset: number, length: number): void {
  if (pairs.length >= 2 * sparseExtentsMax)
    throw new EntryFault('LIMIT', `it has more than ${sparseExtentsMax} data runs`);
  pairs.push(offset, length);
}

/** Which PAX sparse version the records speak of; undefined: none that is known. */
export function paxSparseVersion(sparse: PaxSparse): 'records' | 'text' | undefined {
  const version = `${sparse.major}.${sparse.minor}`;
  if (version === '0.0' || version === '0.1') return 'records';
  if (version === '1.0') return 'text';
  // Versions 0.0 and 0.1 did not say which they were; any other version is left alone, as Go does.
  const unversioned = version === '.' && (sparse.map !== '' || sparse.pairs.length > 0);
  return unversioned ? 'records' : undefined;
}

/** The pairs of versions 0.0 and 0.1. */
export function paxSparsePairs(sparse: PaxSparse): SparsePairs {
  const numbers = sparse.pairs.length > 0 ? sparse.pairs : splitMap(sparse.map);
  if (parseDecimal(sparse.blockCount, 'sparse block count') * 2 !== numbers.length)
    throw malformed();
  return numbers.map(text => parseDecimal(text, 'sparse map'));
}

function splitMap(map: string): string[] {
  return map === '' ? [] : map.split(',');
}

/** The text of version 1.0: a count, then offsets and lengths, a line each, padded to a block. */
export class SparseText {
  readonly pairs: SparsePairs = [];
  #expected = -1;
  #value = 0;
  #digits = 0;
  #offset = -1;

  /** Takes a block; true when the map is complete and the data begins after this block. */
  push(block: Buffer, at: number, length: number): boolean {
    for (let i = at; i < at + length; i++) {
      const byte = block[i]!;
      if (byte === newline) {
        if (this.#endNumber()) return true;
        continue;
      }
      const digit = byte - zero;
      if (digit < 0 || digit > 9 || ++this.#digits > 15) throw malformed();
      this.#value = this.#value * 10 + digit;
    }
    return false;
  }

  #endNumber(): boolean {
    if (this.#digits === 0) throw malformed();
    const value = this.#value;
    this.#value = 0;
    this.#digits = 0;
    if (this.#expected < 0) this.#expected = value;
    else if (this.#offset < 0) this.#offset = value;
    else {
      addPair(this.pairs, this.#offset, value);
      this.#offset = -1;
    }
    return this.#offset < 0 && this.pairs.length === 2 * this.#expected;
  }
}

/**
 * The runs of a file of `sizeBytes` of which the archive stores `storedBytes`: in order, not
 * overlapping, neighbours joined, none empty. Undefined if there is no hole.
 */
export function runsOf(
  pairs: SparsePairs,
  sizeBytes: number,
  storedBytes: number,
): DataRun[] | undefined {
  if (sizeBytes < 0) throw malformed();
  if (sizeBytes > diskSizeMaxBytes)
    throw new EntryFault('LIMIT', `it is larger than ${diskSizeMaxBytes} bytes`);
  const runs: DataRun[] = [];
  let end = 0;
  let data = 0;
  for (let i = 0; i < pairs.length; i += 2) {
    const offsetBytes = pairs[i]!;
    const lengthBytes = pairs[i + 1]!;
    if (lengthBytes < 0 || offsetBytes < end || offsetBytes + lengthBytes > sizeBytes)
      throw malformed();
    const last = runs.at(-1);
    if (last !== undefined && offsetBytes === last.offsetBytes + last.lengthBytes)
      last.lengthBytes += lengthBytes;
    else if (lengthBytes > 0) runs.push({ offsetBytes, lengthBytes });
    end = offsetBytes + lengthBytes;
    data += lengthBytes;
  }
  if (data !== storedBytes) throw malformed();
  return data === sizeBytes ? undefined : runs;
}
