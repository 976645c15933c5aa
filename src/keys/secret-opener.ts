/**
 * Between a secret and what its file holds: new ones, and the opening of those that there are. What
 * KMS wrapped is opened once in the life of an opener: a request for every recipe would be slow, and
 * cost.
 */

import { randomBytes } from 'node:crypto';
import { ImgstoreError } from '../base/errors.ts';
import {
  formatKeyFile,
  isWrapped,
  type KeyFile,
  type KeyKind,
  type KmsWrapped,
  kinds,
  type Secrets,
} from './key-file.ts';
import { secretSizeBytes } from './keys.ts';

export class SecretOpener {
  /** By the whole text of the file, which holds no plain secret. */
  readonly #opened = new Map<string, Promise<Secrets[KeyKind]>>();

  /** `path` is for messages. Errors: KEY and UNAVAILABLE, as kms-fault.ts says. */
  async open<K extends KeyKind>(file: KeyFile<K>, path: string): Promise<Secrets[K]> {
    const { held } = file;
    if (!isWrapped(held)) return held;
    const text = formatKeyFile(file);
    let opening = this.#opened.get(text);
    if (opening === undefined) {
      opening = unwrap(file, held, `${kinds[file.kind].title} at ${path}`);
      this.#opened.set(text, opening);
      opening.catch(() => this.#opened.delete(text)); // the next caller tries again
    }
    // The text begins with the kind.
    return (await opening) as Secrets[K];
  }
}

async function unwrap<K extends KeyKind>(
  file: KeyFile<K>,
  held: KmsWrapped,
  name: string,
): Promise<Secrets[K]> {
  const { decryptDataKey } = await import('./kms.ts');
  const what = `Cannot open ${name} with KMS key ${held.keyArn}`;
  const bytes = await decryptDataKey(held, { what, context: kmsContext(file) });
  const secret = kinds[file.kind].make(bytes);
  bytes.fill(0);
  if (secret.id !== file.id) {
    throw new ImgstoreError('KEY', `${what}: its id is ${secret.id}, not ${file.id}`, {
      hint: 'The file is damaged. Restore it from where it is backed up.',
    });
  }
  return secret;
}

export interface NewSecret extends Pick<KeyFile, 'created' | 'domain'> {
  /** Id, ARN or alias of the KMS key that makes and wraps it; undefined: it is kept as it is. */
  kmsKey?: string | undefined;
}

/** A new secret. One that KMS wrapped was opened once, so it is of use. Errors: those of KMS. */
export async function newSecretFile<K extends KeyKind>(
  kind: K,
  { created, domain, kmsKey }: NewSecret,
): Promise<KeyFile<K>> {
  const said = { kind, created, ...(domain !== undefined && { domain }) };
  if (kmsKey === undefined) {
    const held = kinds[kind].make(randomBytes(secretSizeBytes));
    return { ...said, id: held.id, held };
  }
  const { generateDataKey } = await import('./kms.ts');
  const { secret, keyArn, wrapped } = await generateDataKey(kmsKey, kmsContext(said));
  const { id } = kinds[kind].make(secret);
  secret.fill(0);
  const file: KeyFile<K> = { ...said, id, held: { keyArn, wrapped } };
  await unwrap(file, { keyArn, wrapped }, 'a secret that was just made');
  return file;
}

/** A wrapped secret does not open as one of another kind, nor as that of another domain. */
function kmsContext({ kind, domain }: Pick<KeyFile, 'kind' | 'domain'>): Record<string, string> {
  return {
    purpose: 'imgstore key file',
    kind: kinds[kind].magic,
    ...(domain !== undefined && { domain: domain.name }),
  };
}
