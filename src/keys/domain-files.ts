/**
 * The secrets of dedup domains, in `domains/` of the keys folder.
 *
 * Invariant: a domain's files are only added to, as `NAME.salt`, `NAME.2.salt`, `NAME.3.salt`, … The
 * last is the one in use; the earlier ones find the salts of what was pushed before a rotation. So a
 * rotation is one file that appears, and of two at once one happens.
 */

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, ImgstoreError, ioError } from '../base/errors.ts';
import { checkDomainName, type Domain, domainNamePattern } from './domain.ts';
import { isWrapped, type KeyFile } from './key-file.ts';
import { createKeyFile, createKeysFolder, readKeyFile } from './key-folder.ts';
import { type Clock, currentTime, type KeySource } from './key-source.ts';
import { newSecretFile } from './secret-opener.ts';

/** The file of a domain's secret. */
export interface DomainFile {
  path: string;
  file: KeyFile<'domain'> & { domain: Domain };
}

type Location = Pick<KeySource, 'directory'>;

/** The domains that have a secret here, in order of their names. Errors: IO. */
export async function listDomains({ directory }: Location): Promise<string[]> {
  return [...(await generationsOf(directory)).keys()].sort();
}

/** The secrets of a domain, the one in use first. Errors: KEY, IO. */
export async function readDomainFiles(
  { directory }: Location,
  domain: string,
): Promise<DomainFile[]> {
  const generations = (await generationsOf(directory)).get(domain) ?? [];
  const files: DomainFile[] = [];
  for (const generation of generations) {
    const found = await readDomainFile(domainPath(directory, domain, generation), domain);
    if (found !== undefined) files.push(found);
  }
  return files;
}

/** The secret of a domain in use; undefined if it has none here. Errors: KEY, IO. */
export async function currentDomainFile(
  { directory }: Location,
  domain: string,
): Promise<(DomainFile & { generation: number }) | undefined> {
  const [generation] = (await generationsOf(directory)).get(domain) ?? [];
  if (generation === undefined) return undefined;
  const found = await readDomainFile(domainPath(directory, domain, generation), domain);
  return found && { ...found, generation };
}

export interface NewDomain extends Location, Clock {
  domain: string;
  epochDays: number | undefined;
  /** Undefined: the secret lies in the file as it is. */
  kmsKey: string | undefined;
}

/** The domain's first secret; undefined if it has one. Errors: USAGE for a name, and those of KMS. */
export async function createDomain(options: NewDomain): Promise<DomainFile | undefined> {
  if ((await currentDomainFile(options, checkDomainName(options.domain))) !== undefined) {
    return undefined;
  }
  return addGeneration(options, 1);
}

export interface DomainRotation extends Location, Clock {
  domain: string;
  /** As before if it is undefined. */
  epochDays: number | undefined;
  kmsKey: string | undefined;
}

/**
 * A new secret for a domain; the old one stays, for repairs. Errors: USAGE for a name, KEY if the
 * domain has none, BUSY if another rotation came first, those of KMS.
 */
export async function rotateDomain(options: DomainRotation): Promise<DomainFile> {
  const { directory, domain, epochDays, kmsKey } = options;
  const before = await currentDomainFile({ directory }, checkDomainName(domain));
  const what = `Cannot rotate dedup domain ${domain}`;
  if (before === undefined) {
    throw new ImgstoreError('KEY', `${what}: there is no ${domainPath(directory, domain, 1)}`, {
      hint: 'Copy the file of who pushes to it, or make one with imgstore key generate --domain.',
    });
  }
  const { held } = before.file;
  const added = await addGeneration(
    {
      ...options,
      epochDays: epochDays ?? before.file.domain.epochDays,
      kmsKey: kmsKey ?? (isWrapped(held) ? held.keyArn : undefined),
    },
    before.generation + 1,
  );
  if (added !== undefined) return added;
  throw new ImgstoreError('BUSY', `${what}: it was rotated by another at this moment`, {
    hint: 'Nothing is left to do.',
  });
}

async function addGeneration(
  { directory, domain: name, epochDays, kmsKey, now = currentTime }: NewDomain,
  generation: number,
): Promise<DomainFile | undefined> {
  const path = domainPath(directory, name, generation);
  const domain: Domain = { name, epochDays };
  const file = await newSecretFile('domain', { created: now(), domain, kmsKey });
  await createKeysFolder(directory);
  return (await createKeyFile(path, file)) ? { path, file: { ...file, domain } } : undefined;
}

async function readDomainFile(path: string, domain: string): Promise<DomainFile | undefined> {
  const file = await readKeyFile('domain', path);
  if (file === undefined) return undefined;
  if (file.domain?.name === domain) return { path, file: { ...file, domain: file.domain } };
  const what = `Cannot read the dedup domain's secret at ${path}`;
  throw new ImgstoreError('KEY', `${what}: it is that of domain ${file.domain?.name}`, {
    hint: 'Give the file the name of its domain.',
  });
}

/** Which files each domain has, the newest first; what is no domain's is passed over. */
async function generationsOf(directory: string): Promise<Map<string, number[]>> {
  const folder = join(directory, 'domains');
  const found = new Map<string, number[]>();
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return found;
    throw ioError(`Cannot read ${folder}`, error);
  }
  for (const file of names) {
    const [, name = '', digits] = /^([^.]+)(?:\.([1-9][0-9]{0,8}))?\.salt$/.exec(file) ?? [];
    if (!domainNamePattern.test(name) || digits === '1') continue;
    found.set(name, [...(found.get(name) ?? []), Number(digits ?? 1)]);
  }
  for (const generations of found.values()) generations.sort((a, b) => b - a);
  return found;
}

function domainPath(directory: string, domain: string, generation: number): string {
  const file = generation === 1 ? `${domain}.salt` : `${domain}.${generation}.salt`;
  return join(directory, 'domains', file);
}
