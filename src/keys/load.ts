/**
 * Where the owner key and the dedup salt come from: the environment, else the files `owner.key` and
 * `dedup.salt` of the keys folder. Whoever pushes lets them be made at first use; whoever reads
 * does not, because a key made up on the spot opens nothing.
 */

import { join } from 'node:path';
import { ImgstoreError } from '../base/errors.ts';
import {
  createKeyFile,
  type KeyFile,
  type KeyKind,
  type KeyOf,
  kinds,
  readKeyFile,
} from './key-file.ts';
import type { DedupSalt, OwnerKey } from './keys.ts';

export interface KeySource {
  /** The keys folder: `keys/` in IMGSTORE_HOME. */
  directory: string;
  env: Readonly<Record<string, string | undefined>>;
}

export interface LoadOptions extends KeySource {
  /** Make the file if there is neither a file nor a variable. */
  create: boolean;
  now?: () => Date;
}

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

const variables = { owner: 'IMGSTORE_KEY', salt: 'IMGSTORE_SALT' } as const;

/** Both, for a push. */
export async function loadKeys(options: Omit<LoadOptions, 'create'>): Promise<Keys> {
  const [owner, salt] = await Promise.all([
    loadOwnerKey({ ...options, create: true }),
    loadDedupSalt({ ...options, create: true }),
  ]);
  return { owner, salt };
}

/** Errors: KEY if there is none and none is to be made, or if it cannot be trusted; IO. */
export async function loadOwnerKey(options: LoadOptions): Promise<OwnerKey> {
  return (await load('owner', options)).key;
}

/** Errors: as loadOwnerKey. */
export async function loadDedupSalt(options: LoadOptions): Promise<DedupSalt> {
  return (await load('salt', options)).key;
}

/** Makes the owner key's file. Errors: BUSY if there is one; it is never replaced. */
export async function generateOwnerKey(
  options: KeySource & { now?: () => Date },
): Promise<KeyInfo> {
  const path = keyPath('owner', options.directory);
  const file = await createKeyFile('owner', path, (options.now ?? currentTime)());
  if (file === undefined) {
    throw new ImgstoreError('BUSY', `Cannot generate an owner key: ${path} is already there`, {
      hint: 'It opens what was pushed with it. Move it away, and keep it, to begin with a new one.',
    });
  }
  return { id: file.key.id, path, created: file.created };
}

/** Of the key that loadOwnerKey would give. Errors: KEY if there is none. */
export async function describeOwnerKey(source: KeySource): Promise<KeyInfo> {
  const { key, created } = await load('owner', { ...source, create: false });
  const path = created === undefined ? undefined : keyPath('owner', source.directory);
  return { id: key.id, path, created };
}

function keyPath(kind: KeyKind, directory: string): string {
  return join(directory, kinds[kind].fileName);
}

async function load<K extends KeyKind>(
  kind: K,
  options: LoadOptions,
): Promise<{ key: KeyOf<K>; created: Date | undefined }> {
  const value = options.env[variables[kind]];
  if (value !== undefined) return { key: keyOfVariable(kind, value), created: undefined };
  const path = keyPath(kind, options.directory);
  const file =
    (await readKeyFile(kind, path)) ??
    (options.create ? await readOrCreate(kind, path, options.now ?? currentTime) : undefined);
  if (file === undefined) throw absent(kind, path);
  return file;
}

async function readOrCreate<K extends KeyKind>(
  kind: K,
  path: string,
  now: () => Date,
): Promise<KeyFile<KeyOf<K>> | undefined> {
  return (await createKeyFile(kind, path, now())) ?? (await readKeyFile(kind, path));
}

function keyOfVariable<K extends KeyKind>(kind: K, value: string): KeyOf<K> {
  // An empty variable is refused as well: it is how a secret that a pipeline lacks shows up.
  if (!/^[0-9a-fA-F]{64}$/.test(value)) {
    throw new ImgstoreError(
      'KEY',
      `Cannot use ${variables[kind]}: its value is not 64 hexadecimal digits`,
      { hint: `Set it to 32 bytes in hexadecimal, or unset it to use ${kinds[kind].fileName}.` },
    );
  }
  return kinds[kind].make(Buffer.from(value, 'hex')) as KeyOf<K>;
}

function absent(kind: KeyKind, path: string): ImgstoreError {
  const { title, fileName } = kinds[kind];
  return new ImgstoreError('KEY', `Cannot read ${title}: there is no ${path}`, {
    hint: `Copy the ${fileName} of who pushed, or set ${variables[kind]}.`,
  });
}

function currentTime(): Date {
  return new Date();
}
