/**
 * What the names of a store mean, whoever's they are: a record says which recipe without any key.
 * Whether a record is genuine takes its owner's key; one that is not keeps a recipe too many alive.
 */

import type { RecipeId } from '../base/digest.ts';
import { isObjectDamage } from '../base/errors.ts';
import { inParallel } from '../base/in-parallel.ts';
import { nameRecordSizeMaxBytes } from '../base/limits.ts';
import { formatImageName, type ImageName, nameObjectKey, nameOfObjectKey } from '../recipe/name.ts';
import { parseNameRecord } from '../recipe/name-record.ts';
import type { Roots } from '../store/roots.ts';
import type { GcProblem } from './problem.ts';

export interface NamedRecipes {
  /** The names that mean it, by recipe. */
  names: ReadonlyMap<RecipeId, readonly string[]>;
  nameCount: number;
  /** Names whose records cannot be read. */
  problems: readonly GcProblem[];
}

/** A few hundred bytes each. */
const recordBounds = { atOnce: 32, bytesMax: Infinity, bytesOf: () => 0 };

/** As they are now or later. Errors: UNAVAILABLE of the store, and the signal's reason. */
export async function lookAtNames(
  roots: Roots,
  signal: AbortSignal | undefined,
): Promise<NamedRecipes> {
  const names = new Map<RecipeId, string[]>();
  const problems: GcProblem[] = [];
  let nameCount = 0;
  const objects = roots.names.list('', signal && { signal });
  await inParallel(objects, { ...recordBounds, signal }, async ({ key }, aborting) => {
    const name = nameOfObjectKey(key);
    if (name === undefined) return;
    const found = await recipeOf(roots, name, aborting);
    if (found === undefined) return;
    nameCount++;
    const text = formatImageName(name);
    if (typeof found !== 'string') {
      problems.push({ what: 'name-untold', names: [text], problem: found.problem });
      return;
    }
    const same = names.get(found);
    if (same === undefined) names.set(found, [text]);
    else same.push(text);
  });
  for (const same of names.values()) same.sort();
  return { names, nameCount, problems };
}

/** Undefined if the name was removed since it was listed. */
async function recipeOf(
  roots: Roots,
  name: ImageName,
  signal: AbortSignal,
): Promise<RecipeId | { problem: string } | undefined> {
  try {
    const options = { sizeMaxBytes: nameRecordSizeMaxBytes, signal };
    const bytes = await roots.names.get(nameObjectKey(name), options);
    return bytes && parseNameRecord(bytes, name).recipeId;
  } catch (error) {
    signal.throwIfAborted();
    if (!isObjectDamage(error)) throw error;
    return { problem: error.message };
  }
}
