/**
 * The dedup salts of a home: that of the default domain, from IMGSTORE_SALT or `dedup.salt`, and
 * those derived from the secrets of named domains, in `domains/`.
 *
 * Invariant: a domain's files are only added to, as `NAME.salt`, `NAME.2.salt`, … The last is the
 * one in use; the earlier ones find the salts of what was pushed before a rotation.
 */

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, ImgstoreError, ioError } from '../base/errors.ts';
import { checkDomainName, type Domain, domainNamePattern, saltAt } from './domain.ts';
import type { KeyFile } from './key-file.ts';
import { createFolder, readKeyFile } from './key-folder.ts';
import {
  type Clock,
  currentTime,
  type KeySource,
  newPlainFile,
  readOrCreate,
  secretOfVariable,
} from './key-source.ts';
import type { DedupSalt } from './keys.ts';
import { SecretOpener } from './secret-opener.ts';

export interface SaltOptions extends KeySource, Clock {
  /** The default domain if it is undefined. Other than USAGE for a name, errors as those of keys. */
  domain?: string | undefined;
}

/** How a recipe says which salt its chunks were made with. */
export interface SaltReference {
  saltId: string;
  saltDomain?: string | undefined;
  saltEpoch?: number | undefined;
}

/**
 * The salt of a push that begins now, for all of that push: one that passes the end of an epoch
 * stays in the one it began in. What is missing is made. Errors: USAGE for a domain's name, KEY, IO.
 */
export async function loadDedupSalt(options: SaltOptions): Promise<DedupSalt> {
  const { domain, directory, env, now = currentTime } = options;
  const opener = new SecretOpener();
  const created = now();
  if (domain === undefined) {
    const path = saltPath(directory);
    return (
      secretOfVariable('salt', env) ??
      opener.open(
        await readOrCreate('salt', path, async () => newPlainFile('salt', { created })),
        path,
      )
    );
  }
  checkDomainName(domain);
  await createFolder(directory).catch(error => {
    throw ioError(`Cannot create ${directory}`, error);
  });
  const generations = await domainGenerations(directory, domain);
  const path = domainPath(directory, domain, generations.at(-1) ?? 1);
  const settings: Domain = { name: domain, epochDays: undefined };
  const make = async () => newPlainFile('domain', { created, domain: settings });
  const file = checkDomainFile(await readOrCreate('domain', path, make), domain, path);
  return saltAt(file.domain!, await opener.open(file, path), now());
}

/** The very salt of a recipe, for a repair. Errors: KEY, naming it, if it is not here. */
export async function findDedupSalt(
  { directory, env }: KeySource,
  { saltId, saltDomain, saltEpoch }: SaltReference,
): Promise<DedupSalt> {
  const opener = new SecretOpener();
  if (saltDomain === undefined) {
    const variable = secretOfVariable('salt', env);
    if (variable?.id === saltId) return variable;
    const path = saltPath(directory);
    const file = await readKeyFile('salt', path);
    if (file?.id === saltId) return opener.open(file, path);
    throw saltNeeded({ saltId }, 'keys/dedup.salt');
  }
  const generations = domainNamePattern.test(saltDomain)
    ? await domainGenerations(directory, saltDomain)
    : [];
  for (const generation of generations.reverse()) {
    const path = domainPath(directory, saltDomain, generation);
    const file = await readKeyFile('domain', path);
    if (file === undefined) continue;
    const secret = await opener.open(checkDomainFile(file, saltDomain, path), path);
    const salt = secret.salt(saltDomain, saltEpoch);
    if (salt.id === saltId) return salt;
  }
  throw saltNeeded({ saltId, saltDomain }, `keys/domains/${saltDomain}.salt`);
}

function saltNeeded({ saltId, saltDomain }: SaltReference, file: string): ImgstoreError {
  const domain = saltDomain === undefined ? 'the default domain' : `domain ${saltDomain}`;
  return new ImgstoreError('KEY', `Cannot find dedup salt ${saltId} of ${domain}`, {
    hint: `Put the ${file} of who pushed into the home, or set IMGSTORE_SALT for the default domain.`,
  });
}

function saltPath(directory: string): string {
  return join(directory, 'dedup.salt');
}

function domainPath(directory: string, domain: string, generation: number): string {
  const file = generation === 1 ? `${domain}.salt` : `${domain}.${generation}.salt`;
  return join(directory, 'domains', file);
}

/** Which files a domain has, in the order they were made. */
async function domainGenerations(directory: string, domain: string): Promise<number[]> {
  const files = await domainFiles(directory);
  return files.get(domain) ?? [];
}

/** The files of all domains; what is no domain's is passed over. */
export async function domainFiles(directory: string): Promise<Map<string, number[]>> {
  const folder = join(directory, 'domains');
  const found = new Map<string, number[]>();
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return found;
    throw ioError(`Cannot read ${folder}`, error);
  }
  for (const name of names) {
    const match = /^([a-z0-9-]{1,63})(?:\.([1-9][0-9]{0,5}))?\.salt$/.exec(name);
    if (match === null || !domainNamePattern.test(match[1]!)) continue;
    const generations = found.get(match[1]!) ?? [];
    if (match[2] !== '1') generations.push(Number(match[2] ?? 1));
    found.set(match[1]!, generations);
  }
  for (const generations of found.values()) generations.sort((a, b) => a - b);
  return found;
}

function checkDomainFile(file: KeyFile<'domain'>, domain: string, path: string): KeyFile<'domain'> {
  if (file.domain?.name === domain) return file;
  const what = `Cannot read the dedup domain's secret at ${path}`;
  throw new ImgstoreError('KEY', `${what}: it is that of domain ${file.domain?.name}`, {
    hint: 'Give the file the name of its domain.',
  });
}
