/** Byte streams and faults as the tests of this folder look at them. */

import assert from 'node:assert/strict';
import { readdirSync, readlinkSync } from 'node:fs';
import { type ErrorCode, ImgstoreError } from '../../../src/base/errors.ts';
import type { SourceImage } from '../../../src/oci/source-image.ts';
import type { Random } from '../../support/random.ts';

/** The bytes in pieces of the given size, each a buffer of its own. */
export async function* inPieces(bytes: Buffer, sizeBytes: number): AsyncGenerator<Buffer, void> {
  for (let at = 0; at < bytes.length; at += sizeBytes) {
    yield Buffer.from(bytes.subarray(at, at + sizeBytes));
  }
}

/** The bytes in pieces of sizes from 1 to `maxBytes`, empty ones between them. */
export async function* inRandomPieces(
  bytes: Buffer,
  random: Random,
  maxBytes: number,
): AsyncGenerator<Buffer, void> {
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(bytes.length, at + random.between(random.chance(0.1) ? 0 : 1, maxBytes));
    yield Buffer.from(bytes.subarray(at, end));
    at = end;
  }
}

export async function collect(pieces: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const piece of pieces) all.push(piece);
  return Buffer.concat(all);
}

export function readLayerOf(image: SourceImage, index = 0): Promise<Buffer> {
  return collect(image.openLayer(index, {}));
}

/** It fails with that code; the message has the project's form, every mention, and a hint. */
export async function assertFault(
  work: Promise<unknown> | (() => unknown),
  code: ErrorCode,
  ...mentions: (string | RegExp)[]
): Promise<ImgstoreError> {
  let fault: unknown;
  try {
    await (typeof work === 'function' ? work() : work);
  } catch (error) {
    fault = error;
  }
  assert.ok(fault instanceof ImgstoreError, `not a fault: ${fault}`);
  const line = `${fault.message}. ${fault.hint}`;
  assert.equal(fault.code, code, line);
  assert.match(fault.message, /^Cannot [a-z]+ .+: /s);
  assert.ok(fault.hint !== undefined && fault.hint !== '', `no hint: ${line}`);
  for (const mention of mentions) {
    if (typeof mention === 'string') assert.ok(line.includes(mention), `no ${mention} in: ${line}`);
    else assert.match(line, mention);
  }
  return fault;
}

/** What this process has open below a folder. */
export function openFilesBelow(folder: string): string[] {
  const open: string[] = [];
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      const path = readlinkSync(`/proc/self/fd/${fd}`);
      if (path.startsWith(folder)) open.push(path);
    } catch {
      // Closed since it was listed.
    }
  }
  return open;
}
