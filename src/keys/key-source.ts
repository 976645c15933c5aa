/** Where keys are looked for: variables of the environment, then files of the keys folder. */

import { ImgstoreError } from '../base/errors.ts';
import { type KeyFile, type KeyKind, kinds, type Secrets } from './key-file.ts';
import { createKeyFile, readKeyFile } from './key-folder.ts';

export interface KeySource {
  /** The keys folder: `keys/` in IMGSTORE_HOME. */
  directory: string;
  env: Readonly<Record<string, string | undefined>>;
}

/** For what makes files, which state when. */
export interface Clock {
  now?: (() => Date) | undefined;
}

export interface MakingOptions extends Clock {
  /** One line: a secret was made, and where it is. */
  onMade?: ((message: string) => void) | undefined;
}

export const variables = { owner: 'IMGSTORE_KEY', salt: 'IMGSTORE_SALT' } as const;

/** Undefined if the variable is not set. Errors: KEY. */
export function secretOfVariable<K extends keyof typeof variables>(
  kind: K,
  env: KeySource['env'],
): Secrets[K] | undefined {
  const value = env[variables[kind]];
  if (value === undefined) return undefined;
  // An empty variable is refused as well: it is how a secret that a pipeline lacks shows up.
  if (!/^[0-9a-fA-F]{64}$/.test(value)) {
    throw new ImgstoreError(
      'KEY',
      `Cannot use ${variables[kind]}: its value is not 64 hexadecimal digits`,
      { hint: 'Set it to 32 bytes in hexadecimal, or unset it to use the file in keys/.' },
    );
  }
  return kinds[kind].make(Buffer.from(value, 'hex'));
}

/** The file at `path`, made with a new secret if there is none. */
export async function readOrCreate<K extends KeyKind>(
  kind: K,
  path: string,
  make: () => Promise<KeyFile<K>>,
  onMade: MakingOptions['onMade'],
): Promise<KeyFile<K>> {
  for (;;) {
    const there = await readKeyFile(kind, path);
    if (there !== undefined) return there;
    const made = await make();
    if (!(await createKeyFile(path, made))) continue;
    onMade?.(`Made ${kinds[kind].title} ${path}: ${kinds[kind].advice}`);
    return made;
  }
}

export function currentTime(): Date {
  return new Date();
}
