/**
 * Where the owner key and the dedup salt come from: the environment, else the files `owner.key` and
 * `dedup.salt` of the keys folder. Whoever pushes lets them be made at first use; whoever reads
 * does not, because a key made up on the spot opens nothing.
 */

import { ImgstoreError } from '../base/errors.ts';
import { createKeyFile, readKeyFile } from './key-folder.ts';
import {
  type Clock,
  currentTime,
  type KeySource,
  newPlainFile,
  secretOfVariable,
} from './key-source.ts';
import type { DedupSalt, OwnerKey } from './keys.ts';
import { noOwnerKey, ownerKeyPath, ownerKeys } from './owner-keys.ts';
import { loadDedupSalt } from './salts.ts';

export interface Keys {
  owner: OwnerKey;
  salt: DedupSalt;
}

/** What may be shown of a key. */
export interface KeyInfo {
  id: string;
  /** The path of the file, or undefined for a key from the environment. */
  path: string | undefined;
  created: Date | undefined;
}

/** Both, for a push. */
export async function loadKeys(options: KeySource & Clock): Promise<Keys> {
  const [owner, salt] = await Promise.all([
    loadOwnerKey({ ...options, create: true }),
    loadDedupSalt(options),
  ]);
  return { owner, salt };
}

/** Errors: KEY if there is none and none is to be made, or if it cannot be trusted; IO. */
export async function loadOwnerKey(
  options: KeySource & Clock & { create: boolean },
): Promise<OwnerKey> {
  return ownerKeys(options).current();
}

/** Makes the owner key's file. Errors: BUSY if there is one; it is never replaced. */
export async function generateOwnerKey(options: KeySource & Clock): Promise<KeyInfo> {
  const path = ownerKeyPath(options.directory);
  const file = newPlainFile('owner', { created: (options.now ?? currentTime)() });
  if (!(await createKeyFile(path, file))) {
    throw new ImgstoreError('BUSY', `Cannot generate an owner key: ${path} is already there`, {
      hint: 'It opens what was pushed with it. Move it away, and keep it, to begin with a new one.',
    });
  }
  return { id: file.id, path, created: file.created };
}

/** Of the key that loadOwnerKey would give. Errors: KEY if there is none. */
export async function describeOwnerKey({ directory, env }: KeySource): Promise<KeyInfo> {
  const variable = secretOfVariable('owner', env);
  if (variable !== undefined) return { id: variable.id, path: undefined, created: undefined };
  const path = ownerKeyPath(directory);
  const file = await readKeyFile('owner', path);
  if (file === undefined) throw noOwnerKey(path);
  return { id: file.id, path, created: file.created };
}
