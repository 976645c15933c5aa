/**
 * The dedup salts of a home: that of the default domain, from IMGSTORE_SALT or `dedup.salt`, and
 * those derived from the secrets of named domains.
 */

import { join } from 'node:path';
import { assert } from '../base/assert.ts';
import { describeError, ImgstoreError } from '../base/errors.ts';
import { checkDomainName, domainNamePattern, epochAt, saltAt } from './domain.ts';
import { createDomain, currentDomainFile, listDomains, readDomainFiles } from './domain-files.ts';
import { isWrapped, type KeyFile, kinds } from './key-file.ts';
import { readKeyFile } from './key-folder.ts';
import {
  type Clock,
  currentTime,
  type KeySource,
  type MakingOptions,
  readOrCreate,
  secretOfVariable,
} from './key-source.ts';
import type { DedupSalt } from './keys.ts';
import { ownerKeyPath } from './owner-keys.ts';
import { newSecretFile, SecretOpener } from './secret-opener.ts';

export interface SaltOptions extends KeySource, MakingOptions {
  /** The default domain if it is undefined. */
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
 * stays in the one it began in. What is missing is made, wrapped by the KMS key that wraps owner.key
 * if one does. Errors: USAGE for a domain's name, KEY, IO, and those of KMS.
 */
export async function loadDedupSalt(options: SaltOptions): Promise<DedupSalt> {
  const { domain, directory, env, now = currentTime } = options;
  const opener = new SecretOpener();
  if (domain !== undefined) {
    checkDomainName(domain);
    const found = (await currentDomainFile(options, domain)) ?? (await firstDomainFile(options));
    return saltAt(found.file.domain, await opener.open(found.file, found.path), now());
  }
  const variable = secretOfVariable('salt', env);
  if (variable !== undefined) return variable;
  const path = saltPath(directory);
  const make = async () =>
    newSecretFile('salt', { created: now(), kmsKey: await kmsKeyOfOwner(directory) });
  const file = await readOrCreate('salt', path, make, options.onMade);
  return opener.open(file, path);
}

/** The very salt of a recipe, for a repair. Errors: KEY, naming it, if it is not here. */
export async function findDedupSalt(
  source: KeySource,
  { saltId, saltDomain, saltEpoch }: SaltReference,
): Promise<DedupSalt> {
  const opener = new SecretOpener();
  if (saltDomain === undefined) {
    const variable = secretOfVariable('salt', source.env);
    if (variable?.id === saltId) return variable;
    const path = saltPath(source.directory);
    const file = await readKeyFile('salt', path);
    if (file?.id === saltId) return opener.open(file, path);
    throw new ImgstoreError('KEY', `Cannot find dedup salt ${saltId} of the default domain`, {
      hint: 'Put the keys/dedup.salt of who pushed into the home, or set IMGSTORE_SALT.',
    });
  }
  assert(domainNamePattern.test(saltDomain), 'a recipe names a domain by its grammar');
  for (const { path, file } of await readDomainFiles(source, saltDomain)) {
    const salt = (await opener.open(file, path)).salt(saltDomain, saltEpoch);
    if (salt.id === saltId) return salt;
  }
  throw new ImgstoreError('KEY', `Cannot find dedup salt ${saltId} of domain ${saltDomain}`, {
    hint: `Copy keys/domains/${saltDomain}.salt, and what was added to it, from who pushed.`,
  });
}

/** What may be shown of a salt that a push would take now. */
export interface SaltInfo {
  /** Undefined for the default domain. */
  domain: string | undefined;
  /** Undefined if its secret cannot be opened; `problem` says why. */
  saltId: string | undefined;
  problem?: string;
  epoch: number | undefined;
  epochDays: number | undefined;
  /** Undefined for a salt from the environment. */
  path: string | undefined;
  created: Date | undefined;
  kmsKey: string | undefined;
}

/** The salts that are here, the default domain's first. Errors: KEY for a damaged file, IO. */
export async function describeSalts(source: KeySource & Clock): Promise<SaltInfo[]> {
  const salts = await describeDefaultSalt(source);
  const now = (source.now ?? currentTime)();
  const opener = new SecretOpener();
  for (const domain of await listDomains(source)) {
    const current = await currentDomainFile(source, domain);
    if (current === undefined) continue;
    const { file, path } = current;
    const { epochDays } = file.domain;
    const about = { domain, epoch: epochAt(file.domain, now), epochDays, ...placeOf(file, path) };
    try {
      const { id } = saltAt(file.domain, await opener.open(file, path), now);
      salts.push({ ...about, saltId: id });
    } catch (error) {
      if (!(error instanceof ImgstoreError)) throw error;
      salts.push({ ...about, saltId: undefined, problem: describeError(error) });
    }
  }
  return salts;
}

async function describeDefaultSalt({ directory, env }: KeySource): Promise<SaltInfo[]> {
  const about = { domain: undefined, epoch: undefined, epochDays: undefined };
  const saltId = secretOfVariable('salt', env)?.id;
  const nowhere = { path: undefined, created: undefined, kmsKey: undefined };
  if (saltId !== undefined) return [{ ...about, saltId, ...nowhere }];
  const path = saltPath(directory);
  const file = await readKeyFile('salt', path);
  return file === undefined ? [] : [{ ...about, saltId: file.id, ...placeOf(file, path) }];
}

function placeOf({ created, held }: KeyFile, path: string) {
  return { path, created, kmsKey: isWrapped(held) ? held.keyArn : undefined };
}

function saltPath(directory: string): string {
  return join(directory, 'dedup.salt');
}

/** The domain's file, made by this push or by another at the same moment. */
async function firstDomainFile(options: SaltOptions) {
  const { directory } = options;
  const domain = options.domain!;
  const kmsKey = await kmsKeyOfOwner(directory);
  const made = await createDomain({ ...options, domain, epochDays: undefined, kmsKey });
  if (made !== undefined) {
    options.onMade?.(`Made ${kinds.domain.title} ${made.path}: ${kinds.domain.advice}`);
  }
  const found = made ?? (await currentDomainFile(options, domain));
  assert(found !== undefined, 'a domain that was made has a file');
  return found;
}

async function kmsKeyOfOwner(directory: string): Promise<string | undefined> {
  const held = (await readKeyFile('owner', ownerKeyPath(directory)))?.held;
  return held !== undefined && isWrapped(held) ? held.keyArn : undefined;
}
