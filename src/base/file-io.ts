/**
 * Files by descriptor number. `node:fs/promises` costs one more object and turn of the event loop
 * a call, and its readFile reads in pieces of 512 KiB; objects and chunks are read in one.
 */

import { fsync, open, read, write } from 'node:fs';
import { promisify } from 'node:util';

/** open(2): the descriptor, which the caller closes. */
export const openFile: (path: string, flags: number, mode?: number) => Promise<number> =
  promisify(open);
export const syncFile: (descriptor: number) => Promise<void> = promisify(fsync);

const readSome = promisify(read);
const writeSome = promisify(write);

/** Fills `buffer` from where the descriptor stands; fewer bytes than its length: the file ended. */
export async function readFully(descriptor: number, buffer: Buffer): Promise<number> {
  let filled = 0;
  while (filled < buffer.length) {
    const { bytesRead } = await readSome(descriptor, buffer, filled, buffer.length - filled, null);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return filled;
}

/** Writes all of `bytes` where the descriptor stands. */
export async function writeFully(descriptor: number, bytes: Uint8Array): Promise<void> {
  let written = 0;
  while (written < bytes.length) {
    const left = bytes.length - written;
    written += (await writeSome(descriptor, bytes, written, left, null)).bytesWritten;
  }
}
