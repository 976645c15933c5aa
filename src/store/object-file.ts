/** One object as a file: read whole and within a limit, written whole and durably. */

import { closeSync, constants, fstatSync } from 'node:fs';
import { errnoOf, ImgstoreError } from '../base/errors.ts';
import { openFile, readFully, syncFile, writeFully } from '../base/file-io.ts';

// A store is not trusted: a link may lead out of it, and opening a pipe would wait for a writer.
const readFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const createFlags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;

/** Undefined for a folder, LIMIT for more than `sizeMaxBytes`, IO for what is no regular file. */
export async function readObject(path: string, sizeMaxBytes: number): Promise<Buffer | undefined> {
  const descriptor = await openFile(path, readFlags);
  try {
    // In the inode since open(2): no wait that would be worth a thread.
    const stats = fstatSync(descriptor);
    if (stats.isDirectory()) return undefined;
    if (!stats.isFile()) {
      throw new ImgstoreError('IO', `Cannot read ${path}: it is not a regular file`);
    }
    if (stats.size > sizeMaxBytes) {
      const sizes = `${stats.size} bytes are more than the ${sizeMaxBytes} allowed`;
      throw new ImgstoreError('LIMIT', `Cannot read ${path}: its ${sizes}`);
    }
    const bytes = Buffer.allocUnsafeSlow(stats.size);
    const filled = await readFully(descriptor, bytes);
    if (filled < bytes.length) {
      throw new ImgstoreError('IO', `Cannot read ${path}: it was cut while it was read`);
    }
    return bytes;
  } finally {
    closeSync(descriptor);
  }
}

/** A new file with these bytes, on the disk when it resolves. */
export async function writeDurably(path: string, bytes: Uint8Array): Promise<void> {
  const descriptor = await openFile(path, createFlags);
  try {
    await writeFully(descriptor, bytes);
    await syncFile(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * Makes what was linked, renamed or removed in a folder durable. Writers do not share syncs: the
 * file system commits those that wait at the same time together (sharing them gained nothing).
 */
export async function syncFolder(folder: string): Promise<void> {
  let descriptor: number;
  try {
    descriptor = await openFile(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    // Somebody removed the folder, and so what was in it: nothing is left to make durable.
    if (errnoOf(error) === 'ENOENT') return;
    throw error;
  }
  try {
    await syncFile(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
