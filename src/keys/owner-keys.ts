/**
 * The owner keys of a home: one that seals what is pushed, and any number that open what others
 * sealed, or this owner before. They are looked for at each call: keys come and go under a daemon.
 */

import { join } from 'node:path';
import { assert } from '../base/assert.ts';
import { ImgstoreError } from '../base/errors.ts';
import type { KeyFile } from './key-file.ts';
import { readKeyFile } from './key-folder.ts';
import {
  currentTime,
  type KeySource,
  type MakingOptions,
  readOrCreate,
  secretOfVariable,
} from './key-source.ts';
import { keyIdPattern, type OwnerKey } from './keys.ts';
import { newSecretFile, SecretOpener } from './secret-opener.ts';

export interface OwnerKeys {
  /** The key that seals what is pushed. Errors: KEY if there is none or it cannot be trusted; IO. */
  current(): Promise<OwnerKey>;
  /** The key of this id; undefined if it is not here. Errors: as `current`, but for absence. */
  find(id: string): Promise<OwnerKey | undefined>;
}

/**
 * `create`: the first `current` makes a key where there is none. Whoever only reads does not: a key
 * made up on the spot opens nothing.
 */
export function ownerKeys(options: KeySource & MakingOptions & { create: boolean }): OwnerKeys {
  const { directory, env, create, now = currentTime } = options;
  const opener = new SecretOpener();
  const path = ownerKeyPath(directory);
  return {
    async current() {
      const variable = secretOfVariable('owner', env);
      if (variable !== undefined) return variable;
      const file = create
        ? await readOrCreate(
            'owner',
            path,
            () => newSecretFile('owner', { created: now() }),
            options.onMade,
          )
        : await readKeyFile('owner', path);
      if (file === undefined) throw noOwnerKey(path);
      return opener.open(file, path);
    },

    async find(id) {
      assert(keyIdPattern.test(id), 'the id of a key has 32 hexadecimal digits');
      const variable = secretOfVariable('owner', env);
      if (variable?.id === id) return variable;
      const own = await readKeyFile('owner', path);
      if (own?.id === id) return opener.open(own, path);
      const other = await readHeldKey(directory, id);
      return other && opener.open(other, heldKeyPath(directory, id));
    },
  };
}

/** The one error for a key that is not here. `what` is "Cannot <do> <what>", without a colon. */
export function keyNeeded(what: string, keyId: string): ImgstoreError {
  return new ImgstoreError('KEY', `${what}: it needs owner key ${keyId}, which is not here`, {
    hint: `Put it at keys/owners/${keyId}.key in the home (imgstore key import), or set IMGSTORE_KEY.`,
  });
}

export function ownerKeyPath(directory: string): string {
  return join(directory, 'owner.key');
}

/** Where the keys of others and the earlier ones of this owner are. */
export function heldKeysFolder(directory: string): string {
  return join(directory, 'owners');
}

export function heldKeyPath(directory: string, id: string): string {
  return join(heldKeysFolder(directory), `${id}.key`);
}

/** Errors: as readKeyFile, and KEY if the file has another id than its name. */
export async function readHeldKey(
  directory: string,
  id: string,
): Promise<KeyFile<'owner'> | undefined> {
  const path = heldKeyPath(directory, id);
  const file = await readKeyFile('owner', path);
  if (file === undefined || file.id === id) return file;
  throw new ImgstoreError('KEY', `Cannot read the owner key at ${path}: its id is ${file.id}`, {
    hint: 'The name of the file is the id of another key. Run imgstore key import to place a key.',
  });
}

export function noOwnerKey(path: string): ImgstoreError {
  return new ImgstoreError('KEY', `Cannot read the owner key: there is no ${path}`, {
    hint: 'Copy the owner.key of who pushed, or set IMGSTORE_KEY.',
  });
}
