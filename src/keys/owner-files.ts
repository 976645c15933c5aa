/**
 * What is done with the files of owner keys: `owner.key`, which is this home's own, and `owners/`,
 * where those of others are and those that were this home's before.
 */

import { readdir } from 'node:fs/promises';
import { errnoOf, ImgstoreError, ioError } from '../base/errors.ts';
import { isWrapped, type KeyFile } from './key-file.ts';
import { createKeyFile, createKeysFolder, readKeyFile } from './key-folder.ts';
import { type Clock, currentTime, type KeySource, secretOfVariable } from './key-source.ts';
import { keyIdPattern } from './keys.ts';
import { heldKeyPath, heldKeysFolder, ownerKeyPath, readHeldKey } from './owner-keys.ts';
import { newSecretFile } from './secret-opener.ts';

/** What may be shown of a key. */
export interface KeyInfo {
  id: string;
  /** Undefined for a key from the environment. */
  path: string | undefined;
  created: Date | undefined;
  /** ARN of the KMS key that wraps it. */
  kmsKey: string | undefined;
}

type Location = Pick<KeySource, 'directory'>;

/** Makes the owner key's file. Errors: BUSY if there is one, which is never replaced; those of KMS. */
export async function generateOwnerKey(
  options: Location & Clock & { kmsKey?: string | undefined },
): Promise<KeyInfo> {
  const { directory, kmsKey, now = currentTime } = options;
  const path = ownerKeyPath(directory);
  // Looked at first so that KMS need not be asked in vain.
  const there = await readKeyFile('owner', path);
  if (there === undefined) {
    const file = await newSecretFile('owner', { created: now(), kmsKey });
    if (await createKeyFile(path, file)) return infoOf(file, path);
  }
  throw new ImgstoreError('BUSY', `Cannot generate an owner key: ${path} is already there`, {
    hint: 'imgstore key rotate takes a new one into use and keeps the old one.',
  });
}

/** Of the key that seals what is pushed; undefined if there is none. Errors: KEY if damaged; IO. */
export async function describeOwnerKey({
  directory,
  env,
}: KeySource): Promise<KeyInfo | undefined> {
  const id = secretOfVariable('owner', env)?.id;
  if (id !== undefined) return { id, path: undefined, created: undefined, kmsKey: undefined };
  const path = ownerKeyPath(directory);
  const file = await readKeyFile('owner', path);
  return file && infoOf(file, path);
}

/** Ids of the keys in `owners/`, in order. Errors: IO. */
export async function heldKeyIds({ directory }: Location): Promise<string[]> {
  const folder = heldKeysFolder(directory);
  try {
    const names = await readdir(folder);
    const ids = names.filter(name => name.endsWith('.key')).map(name => name.slice(0, -4));
    return ids.filter(id => keyIdPattern.test(id)).sort();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw ioError(`Cannot read ${folder}`, error);
  }
}

/**
 * Puts a copy of an owner key's file where `find` looks for it. A key that is here already is left
 * as it is. Errors: NOT_FOUND; KEY if the file is no owner key, damaged or open to others; IO.
 */
export async function importOwnerKey({ directory }: Location, from: string): Promise<KeyInfo> {
  const file = await readKeyFile('owner', from);
  if (file === undefined) {
    throw new ImgstoreError('NOT_FOUND', `Cannot import ${from}: there is no such file`);
  }
  const ownPath = ownerKeyPath(directory);
  const own = await readKeyFile('owner', ownPath);
  if (own?.id === file.id) return infoOf(own, ownPath);
  return infoOf(await holdKey({ directory }, file), heldKeyPath(directory, file.id));
}

/** Puts a key into `owners/`, and gives what is there afterwards under its id. */
export async function holdKey(
  { directory }: Location,
  file: KeyFile<'owner'>,
): Promise<KeyFile<'owner'>> {
  await createKeysFolder(directory);
  if (await createKeyFile(heldKeyPath(directory, file.id), file)) return file;
  return (await readHeldKey(directory, file.id)) ?? holdKey({ directory }, file);
}

function infoOf({ id, created, held }: KeyFile<'owner'>, path: string): KeyInfo {
  return { id, path, created, kmsKey: isWrapped(held) ? held.keyArn : undefined };
}
