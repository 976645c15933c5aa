/**
 * Files with a secret each: readable by their owner alone, whole or not there at all. One that is
 * created is never replaced: of several processes that create it at once one succeeds, and the
 * others read what that one wrote.
 */

import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, link, mkdir, open, rename, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errnoOf, ImgstoreError, ioError } from '../base/errors.ts';
import {
  formatKeyFile,
  type KeyFile,
  type KeyKind,
  keyFileSizeMaxBytes,
  kinds,
  parseKeyFile,
} from './key-file.ts';

/** Undefined if there is none. Errors: KEY if it is readable by others, damaged or of another kind. */
export async function readKeyFile<K extends KeyKind>(
  kind: K,
  path: string,
): Promise<KeyFile<K> | undefined> {
  const text = await readSecretText(`Cannot read ${kinds[kind].title} at ${path}`, path);
  return text === undefined ? undefined : parseKeyFile(kind, text, path);
}

/** The start of a file that only its owner may read or write to, undefined if there is none. */
export async function readSecretText(what: string, path: string): Promise<string | undefined> {
  try {
    // Without O_NONBLOCK a FIFO would be waited for.
    await using handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = await handle.stat();
    if (!stat.isFile()) throw new ImgstoreError('KEY', `${what}: it is not a regular file`);
    if ((stat.mode & 0o077) !== 0) {
      const mode = (stat.mode & 0o777).toString(8).padStart(4, '0');
      throw new ImgstoreError('KEY', `${what}: others may read it or write to it (mode ${mode})`, {
        hint: `Run chmod 600 ${path}, and think about who may have read it.`,
      });
    }
    return await readStart(handle);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw ioError(what, error);
  }
}

/** A whole key file, or more than any key file has. */
async function readStart(handle: FileHandle): Promise<string> {
  const buffer = Buffer.alloc(keyFileSizeMaxBytes + 1);
  const { bytesRead } = await handle.read(buffer, 0, buffer.length, 0);
  return buffer.toString('latin1', 0, bytesRead);
}

/**
 * Writes a new file, 0600 in a folder of 0700, durable when it resolves. False if there is one
 * already: that is left as it is.
 */
export function createKeyFile(path: string, file: KeyFile): Promise<boolean> {
  return createSecretText(path, formatKeyFile(file));
}

export async function createSecretText(path: string, text: string): Promise<boolean> {
  const folder = dirname(path);
  const temporary = temporaryPath(path);
  try {
    await createFolder(folder);
    await writeDurably(temporary, text);
    try {
      await link(temporary, path);
    } finally {
      await unlink(temporary);
    }
    await syncFolder(folder);
    return true;
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw ioError(`Cannot create ${path}`, error);
    await syncFolder(folder); // who lost relies on the file as much as who won
    return false;
  }
}

/** Puts this file in the place of the one that is there, durable when it resolves. */
export async function replaceKeyFile(path: string, file: KeyFile): Promise<void> {
  const temporary = temporaryPath(path);
  try {
    await writeDurably(temporary, formatKeyFile(file));
    await rename(temporary, path);
    await syncFolder(dirname(path));
  } catch (error) {
    throw ioError(`Cannot replace ${path}`, error);
  }
}

function temporaryPath(path: string): string {
  return `${path}.${randomBytes(8).toString('hex')}.new`;
}

/** The keys folder, where a folder in it is to hold a file. Errors: IO. */
export async function createKeysFolder(directory: string): Promise<void> {
  try {
    await createFolder(directory);
  } catch (error) {
    throw ioError(`Cannot create ${directory}`, error);
  }
}

/** Of mode 0700, durable; a folder that is missing above it is nothing secret. */
async function createFolder(folder: string): Promise<void> {
  const parent = dirname(folder);
  await mkdir(parent, { recursive: true });
  try {
    await mkdir(folder, { mode: 0o700 });
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error;
    return;
  }
  await syncFolder(parent);
}

async function writeDurably(path: string, text: string): Promise<void> {
  await using handle = await open(path, 'wx', 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } catch (error) {
    await unlink(path);
    throw error;
  }
}

/** Removes a file that may be gone already, durably. */
export async function removeKeyFile(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return;
    throw ioError(`Cannot remove ${path}`, error);
  }
  await syncFolder(dirname(path));
}

async function syncFolder(folder: string): Promise<void> {
  await using handle = await open(folder, 'r');
  await handle.sync();
}
