/**
 * The change from one owner key to the next in a home; what the old one sealed in a store is
 * re-wrapped between its two parts (catalog/rewrap.ts).
 *
 * Invariants: `keys/rotation` says from which key to which while a rotation is under way, so one
 * that was killed is continued and not begun anew. Both keys can be found from before the first
 * object is sealed for the new one, and the old one for ever. Each step may be done twice.
 */

import { join } from 'node:path';
import { ImgstoreError } from '../base/errors.ts';
import { isWrapped, type KeyFile } from './key-file.ts';
import {
  createSecretText,
  readKeyFile,
  readSecretText,
  removeKeyFile,
  replaceKeyFile,
} from './key-folder.ts';
import { type Clock, currentTime, type KeySource, variables } from './key-source.ts';
import type { OwnerKey } from './keys.ts';
import { holdKey } from './owner-files.ts';
import { heldKeyPath, keyNeeded, noOwnerKey, ownerKeyPath, readHeldKey } from './owner-keys.ts';
import { newSecretFile, SecretOpener } from './secret-opener.ts';

export interface Rotation {
  from: OwnerKey;
  to: OwnerKey;
  /** Whether it was begun earlier, and is carried on. */
  continued: boolean;
}

export interface RotationOptions extends KeySource, Clock {
  /** Of the new key. If it is undefined, that of the old key, if KMS wraps it. */
  kmsKey?: string | undefined;
}

/** Ids of keys. */
export interface RotationPlan {
  from: string;
  to: string;
}

const planPattern =
  /^imgstore key-rotation 1\nfrom (?<from>[0-9a-f]{32})\nto (?<to>[0-9a-f]{32})\n$/;

/**
 * Takes a new key into use, or carries on with the one of a rotation that was not finished. From
 * then on pushes seal with it. Errors: USAGE if the environment gives the key, KEY, IO, those of KMS.
 */
export async function beginRotation(options: RotationOptions): Promise<Rotation> {
  const { directory, env } = options;
  if (env[variables.owner] !== undefined) {
    throw new ImgstoreError('USAGE', 'Cannot rotate the owner key: IMGSTORE_KEY gives it', {
      hint: 'Unset IMGSTORE_KEY to rotate the key in the home; import the other one to keep it.',
    });
  }
  const unfinished = await unfinishedRotation(options);
  const plan = unfinished ?? (await newPlan(options));
  const ownPath = ownerKeyPath(directory);
  const own = await readKeyFile('owner', ownPath);
  if (own === undefined) throw noOwnerKey(ownPath);
  if (own.id === plan.from) await holdKey(options, own);
  const [from, to] = await Promise.all([
    needHeldKey(directory, plan.from),
    own.id === plan.to ? own : needHeldKey(directory, plan.to),
  ]);
  // A key that cannot be opened must not come into use.
  const opener = new SecretOpener();
  const keys = await Promise.all([
    opener.open(from, heldKeyPath(directory, plan.from)),
    opener.open(to, heldKeyPath(directory, plan.to)),
  ]);
  if (own.id === plan.from) await replaceKeyFile(ownPath, to);
  else if (own.id !== plan.to) throw otherKeys(directory, own.id);
  return { from: keys[0], to: keys[1], continued: unfinished !== undefined };
}

/** After all that is to be re-wrapped is. Errors: IO. */
export async function finishRotation({ directory }: KeySource, { to }: Rotation): Promise<void> {
  // The new key's own file is owner.key by now.
  await removeKeyFile(heldKeyPath(directory, to.id));
  await removeKeyFile(planPath(directory));
}

/** The new key is here before the plan that names it: of two plans at once one is followed. */
async function newPlan(options: RotationOptions): Promise<RotationPlan> {
  const { directory, now = currentTime } = options;
  const path = ownerKeyPath(directory);
  const own = await readKeyFile('owner', path);
  if (own === undefined) throw noOwnerKey(path);
  const kmsKey = options.kmsKey ?? (isWrapped(own.held) ? own.held.keyArn : undefined);
  const next = await newSecretFile('owner', { created: now(), kmsKey });
  await holdKey(options, next);
  const plan = { from: own.id, to: next.id };
  const text = `imgstore key-rotation 1\nfrom ${plan.from}\nto ${plan.to}\n`;
  if (await createSecretText(planPath(directory), text)) return plan;
  await removeKeyFile(heldKeyPath(directory, next.id));
  return (await unfinishedRotation(options)) ?? newPlan(options);
}

/** Of a rotation that was begun and not finished. Errors: KEY for a damaged file, IO. */
export async function unfinishedRotation({
  directory,
}: Pick<KeySource, 'directory'>): Promise<RotationPlan | undefined> {
  const path = planPath(directory);
  const what = `Cannot read ${path}`;
  const text = await readSecretText(what, path);
  if (text === undefined) return undefined;
  const { from, to } = planPattern.exec(text)?.groups ?? {};
  if (from !== undefined && to !== undefined) return { from, to };
  throw new ImgstoreError('KEY', `${what}: it is no plan of a rotation`, { hint: removalHint });
}

async function needHeldKey(directory: string, id: string): Promise<KeyFile<'owner'>> {
  const file = await readHeldKey(directory, id);
  if (file === undefined) throw keyNeeded('Cannot rotate the owner key', id);
  return file;
}

function otherKeys(directory: string, id: string): ImgstoreError {
  const state = `${planPath(directory)} is about other keys than owner.key, whose id is ${id}`;
  return new ImgstoreError('KEY', `Cannot rotate the owner key: ${state}`, { hint: removalHint });
}

const removalHint = 'Remove that file to begin a rotation anew; no key is lost by it.';

function planPath(directory: string): string {
  return join(directory, 'rotation');
}
