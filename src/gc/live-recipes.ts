/**
 * The recipes that names mean: where each lies, and which chunks it needs, read as often as a pass
 * over the chunks needs it and never kept.
 */

import type { ChunkId, RecipeId } from '../base/digest.ts';
import { isObjectDamage } from '../base/errors.ts';
import { inParallel } from '../base/in-parallel.ts';
import { MiB, recipeSizeMaxBytes } from '../base/limits.ts';
import { publicChunkIds } from '../recipe/sealed-recipe.ts';
import { recipeObjectKey } from '../store/format.ts';
import type { Root } from '../store/roots.ts';
import type { NamedRecipes } from './named-recipes.ts';
import type { GcProblem } from './problem.ts';

const readsAtOnce = 8;
const readsAtOnceMaxBytes = 64 * MiB;

export interface LiveRecipe {
  readonly id: RecipeId;
  readonly names: readonly string[];
  sizeBytes: number;
  /** Where it lies, the newest root first; once it was read, without those where it is damaged. */
  places: Root[];
  /** What is wrong with it where it is damaged. */
  damage: string | undefined;
}

export interface ListedRecipe {
  root: Root;
  id: string;
  sizeBytes: number;
  modified: Date;
  isLive: boolean;
}

/** One list a root. Errors: those of the store, and the signal's reason. */
export async function findRecipes(
  roots: readonly Root[],
  { names }: NamedRecipes,
  {
    onListed,
    signal,
  }: { onListed?: (recipe: ListedRecipe) => void; signal?: AbortSignal | undefined },
): Promise<LiveRecipe[]> {
  const live = new Map<string, LiveRecipe>();
  for (const [id, texts] of names) {
    live.set(id, { id, names: texts, sizeBytes: 0, places: [], damage: undefined });
  }
  for (const root of roots) {
    for await (const { key, sizeBytes, modified } of root.recipes.list('', signal && { signal })) {
      const recipe = live.get(key);
      if (recipe !== undefined) {
        recipe.places.push(root);
        recipe.sizeBytes = Math.max(recipe.sizeBytes, sizeBytes);
      }
      onListed?.({ root, id: key, sizeBytes, modified, isLive: recipe !== undefined });
    }
  }
  return [...live.values()];
}

/** Calls `visit` for each recipe that can be read. Errors: UNAVAILABLE, and the signal's reason. */
export async function readRecipes(
  recipes: readonly LiveRecipe[],
  signal: AbortSignal | undefined,
  visit: (ids: readonly ChunkId[], recipe: LiveRecipe) => void,
): Promise<void> {
  const bounds = {
    atOnce: readsAtOnce,
    bytesMax: readsAtOnceMaxBytes,
    bytesOf: (recipe: LiveRecipe) => recipe.sizeBytes,
    signal,
  };
  await inParallel(recipes, bounds, async (recipe, aborting) => {
    const ids = await readRecipe(recipe, aborting);
    if (ids !== undefined) visit(ids, recipe);
  });
}

async function readRecipe(recipe: LiveRecipe, signal: AbortSignal): Promise<ChunkId[] | undefined> {
  const { id } = recipe;
  const options = { sizeMaxBytes: recipeSizeMaxBytes, signal };
  for (let root = recipe.places[0]; root !== undefined; root = recipe.places[0]) {
    try {
      const bytes = await root.recipes.get(recipeObjectKey(id), options);
      if (bytes !== undefined) return publicChunkIds(bytes, id);
    } catch (error) {
      signal.throwIfAborted();
      if (!isObjectDamage(error)) throw error;
      recipe.damage ??= error.message;
    }
    recipe.places.shift();
  }
  return undefined;
}

/** What is wrong with recipes, once they were read. */
export function recipeProblems(recipes: readonly LiveRecipe[]): GcProblem[] {
  return recipes
    .filter(({ places }) => places.length === 0)
    .map(({ id, names, damage = `recipe ${id} is in no root` }) => {
      return { what: 'name-untold', names, problem: damage };
    });
}
