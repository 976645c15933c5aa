/**
 * After a rotation: what one owner key sealed in a store, re-wrapped for the next one. Recipes keep
 * their ids and names their times; chunks are not touched.
 *
 * Invariant: at every moment each name opens with the two keys at hand, since a record and its recipe
 * name their keys each for itself. What is re-wrapped already is passed over, so a run that was
 * killed is repeated.
 */

import { isHexDigest, type RecipeId } from '../base/digest.ts';
import { describeError, hasCode } from '../base/errors.ts';
import { inParallel } from '../base/in-parallel.ts';
import { MiB, nameRecordSizeMaxBytes, recipeSizeMaxBytes } from '../base/limits.ts';
import type { OwnerKey } from '../keys/keys.ts';
import { formatImageName, type ImageName, nameObjectKey, nameOfObjectKey } from '../recipe/name.ts';
import { encodeNameRecord, parseNameRecord, verifyNameRecord } from '../recipe/name-record.ts';
import { recipeKeyId, rewrapRecipe } from '../recipe/sealed-recipe.ts';
import type { RootId } from '../store/format.ts';
import type { ObjectStat } from '../store/object-store.ts';
import type { Root, Roots } from '../store/roots.ts';

export interface Rewrapped {
  /** Recipes, of each root for itself, and names: those that were rewritten. */
  recipes: number;
  names: number;
  /** Those of the old key that could not be, being damaged. */
  damaged: number;
}

export interface RewrapOptions {
  from: OwnerKey;
  to: OwnerKey;
  /** One line about an object that is damaged and left as it is. */
  onProblem: (message: string) => void;
  signal?: AbortSignal;
}

const atOnceMax = 16;
/** Of recipes, each of which is there twice while it is re-wrapped. */
const inMemoryMaxBytes = 64 * MiB;

type Outcome = 'rewritten' | 'passed' | 'damaged';

/**
 * Expired roots are left: no name means what is in them. Errors: those of Roots.view and the store;
 * what is damaged is none.
 *
 * A push that replaces a name in the moment between our reading and writing its record is undone:
 * stores have no compare-and-swap. So who rotates a key does not push with it meanwhile.
 */
export async function rewrapStore(roots: Roots, options: RewrapOptions): Promise<Rewrapped> {
  const done: Rewrapped = { recipes: 0, names: 0, damaged: 0 };
  const count = (kind: 'recipes' | 'names') => (outcome: Outcome) => {
    if (outcome !== 'passed') done[outcome === 'rewritten' ? kind : 'damaged']++;
  };
  const { signal } = options;
  for await (const root of rootsToRewrap(roots)) {
    const recipes = root.recipes.list('', signal && { signal });
    await each(recipes, options, async ({ key }, aborting) => {
      if (!isHexDigest(key)) return;
      count('recipes')(await rewrapRecipeObject(root, key as RecipeId, options, aborting));
    });
  }
  const names = roots.names.list('', signal && { signal });
  await each(names, options, async ({ key }, aborting) => {
    const name = nameOfObjectKey(key);
    if (name !== undefined) count('names')(await rewrapName(roots, name, options, aborting));
  });
  return done;
}

/**
 * The oldest first, and those that collections open meanwhile: these copy recipes as they are from
 * older roots to newer ones.
 */
async function* rootsToRewrap(roots: Roots): AsyncGenerator<Root, void, undefined> {
  const passed = new Set<RootId>();
  for (;;) {
    const { roots: readable } = await roots.refresh();
    const root = readable.findLast(({ id, state }) => state !== 'expired' && !passed.has(id));
    if (root === undefined) return;
    passed.add(root.id);
    yield root;
  }
}

async function rewrapRecipeObject(
  root: Root,
  id: RecipeId,
  { from, to, onProblem }: RewrapOptions,
  signal: AbortSignal,
): Promise<Outcome> {
  return unlessDamaged(`recipe ${id} of root ${root.id}`, onProblem, async () => {
    const limits = { sizeMaxBytes: recipeSizeMaxBytes, signal };
    const bytes = await root.recipes.get(id, limits);
    if (bytes === undefined || recipeKeyId(bytes) !== from.id) return 'passed';
    const rewrapped = rewrapRecipe(bytes, { from, to, expectedId: id });
    await root.recipes.put(id, rewrapped, { ifAbsent: false, signal });
    return 'rewritten';
  });
}

async function rewrapName(
  roots: Roots,
  name: ImageName,
  { from, to, onProblem }: RewrapOptions,
  signal: AbortSignal,
): Promise<Outcome> {
  const key = nameObjectKey(name);
  return unlessDamaged(`the record of ${formatImageName(name)}`, onProblem, async () => {
    const limits = { sizeMaxBytes: nameRecordSizeMaxBytes, signal };
    const bytes = await roots.names.get(key, limits);
    const record = bytes && parseNameRecord(bytes, name);
    if (record === undefined || record.keyId !== from.id) return 'passed';
    verifyNameRecord(record, name, from);
    const rewritten = encodeNameRecord(name, record, to);
    await roots.names.put(key, rewritten, { ifAbsent: false, signal });
    return 'rewritten';
  });
}

/** Damage of what is another owner's is reported as well: its key is not always to be read. */
async function unlessDamaged(
  what: string,
  onProblem: RewrapOptions['onProblem'],
  work: () => Promise<Outcome>,
): Promise<Outcome> {
  try {
    return await work();
  } catch (error) {
    if (!hasCode(error, ['CORRUPT', 'UNSUPPORTED', 'LIMIT'])) throw error;
    onProblem(`${what} is left as it is: ${describeError(error)}`);
    return 'damaged';
  }
}

async function each(
  objects: AsyncIterable<ObjectStat>,
  { signal }: RewrapOptions,
  work: (object: ObjectStat, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const bytesOf = ({ sizeBytes }: ObjectStat) => sizeBytes;
  await inParallel(
    objects,
    { atOnce: atOnceMax, bytesMax: inMemoryMaxBytes, bytesOf, signal },
    work,
  );
}
