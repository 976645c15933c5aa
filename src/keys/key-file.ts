/**
 * A secret in a file, as docs/format/key.md describes it: four lines of text, readable by its owner
 * alone. A file appears whole or not at all, and is never replaced: of several processes that
 * create it at once one succeeds, and the others read what that one wrote.
 */

import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, link, mkdir, open, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errnoOf, ImgstoreError, ioError } from '../base/errors.ts';
import { DedupSalt, OwnerKey, secretSizeBytes } from './keys.ts';

export type KeyKind = 'owner' | 'salt';

export interface KeyFile<K> {
  key: K;
  created: Date;
}

/** What the file of a kind is called, in itself and in messages, and what it holds. */
export const kinds = {
  owner: {
    fileName: 'owner.key',
    magic: 'imgstore owner-key',
    title: 'the owner key',
    make: (bytes: Uint8Array): OwnerKey => new OwnerKey(bytes),
  },
  salt: {
    fileName: 'dedup.salt',
    magic: 'imgstore dedup-salt',
    title: 'the dedup salt',
    make: (bytes: Uint8Array): DedupSalt => new DedupSalt(bytes),
  },
} as const;

export type KeyOf<K extends KeyKind> = ReturnType<(typeof kinds)[K]['make']>;

const version = '1';
const fileSizeMaxBytes = 1024;
const body =
  /^id ([0-9a-f]{32})\ncreated (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)\nsecret ([0-9a-f]{64})\n$/;

export function formatKeyFile<K extends KeyKind>(kind: K, file: KeyFile<KeyOf<K>>): string {
  const { key, created } = file;
  const first = `${kinds[kind].magic} ${version}`;
  const secret = key.bytes.toString('hex');
  return `${first}\nid ${key.id}\ncreated ${created.toISOString()}\nsecret ${secret}\n`;
}

/** `path` is for messages only. Errors: KEY, without anything of what the file holds. */
export function parseKeyFile<K extends KeyKind>(
  kind: K,
  text: string,
  path: string,
): KeyFile<KeyOf<K>> {
  const { magic, title, make } = kinds[kind];
  const what = `Cannot read ${title} at ${path}`;
  if (!text.startsWith(`${magic} `)) {
    throw new ImgstoreError('KEY', `${what}: the first line is not "${magic} ${version}"`, {
      hint: 'Restore the file from where it is backed up.',
    });
  }
  const lineEnd = text.indexOf('\n');
  if (text.slice(magic.length + 1, lineEnd) !== version) {
    throw new ImgstoreError('KEY', `${what}: it is of another version than ${version}`, {
      hint: 'Use the imgstore that wrote it, or a newer one.',
    });
  }
  const damaged = new ImgstoreError('KEY', `${what}: it is damaged`, {
    hint: 'Restore the file from where it is backed up.',
  });
  const match = body.exec(text.slice(lineEnd + 1));
  if (match === null) throw damaged;
  const [, id, created, secret] = match;
  const key = make(Buffer.from(secret!, 'hex')) as KeyOf<K>;
  const time = new Date(created!);
  if (key.id !== id || Number.isNaN(time.getTime())) throw damaged;
  return { key, created: time };
}

/** Undefined if there is none. Errors: KEY if it is readable by others, damaged or of another kind. */
export async function readKeyFile<K extends KeyKind>(
  kind: K,
  path: string,
): Promise<KeyFile<KeyOf<K>> | undefined> {
  const what = `Cannot read ${kinds[kind].title} at ${path}`;
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
    return parseKeyFile(kind, await readStart(handle), path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw ioError(what, error);
  }
}

/** A whole key file, or more than any key file has. */
async function readStart(handle: FileHandle): Promise<string> {
  const buffer = Buffer.alloc(fileSizeMaxBytes + 1);
  const { bytesRead } = await handle.read(buffer, 0, buffer.length, 0);
  return buffer.toString('latin1', 0, bytesRead);
}

/**
 * Makes a new secret and its file, 0600 in a folder of 0700, durable when it resolves. Undefined
 * if a file is there already: that one is left as it is.
 */
export async function createKeyFile<K extends KeyKind>(
  kind: K,
  path: string,
  created: Date,
): Promise<KeyFile<KeyOf<K>> | undefined> {
  const key = kinds[kind].make(randomBytes(secretSizeBytes)) as KeyOf<K>;
  const folder = dirname(path);
  const temporary = `${path}.${randomBytes(8).toString('hex')}.new`;
  try {
    await createFolder(folder);
    await writeDurably(temporary, formatKeyFile(kind, { key, created }));
    try {
      await link(temporary, path);
    } finally {
      await unlink(temporary);
    }
    await syncFolder(folder);
    return { key, created };
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw ioError(`Cannot create ${path}`, error);
    await syncFolder(folder); // who lost relies on the file as much as who won
    return undefined;
  }
}

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

async function syncFolder(folder: string): Promise<void> {
  await using handle = await open(folder, 'r');
  await handle.sync();
}
