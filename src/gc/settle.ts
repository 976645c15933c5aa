/**
 * Brings into the active root what names need and only other roots have: the chunks, then the
 * recipes, so that a recipe that is there has its chunks beside it. The store copies; no byte comes
 * here. What is there is found by listing and not copied again, which makes it restartable.
 */

import type { RecipeId } from '../base/digest.ts';
import { inParallel } from '../base/in-parallel.ts';
import type { CopyingStore } from '../store/copying-store.ts';
import { chunkObjectKey, chunksPrefix, recipeObjectKey, recipesPrefix } from '../store/format.ts';
import type { Root } from '../store/roots.ts';
import { walkChunks } from './chunk-walk.ts';
import { findRecipes, recipeProblems } from './live-recipes.ts';
import type { NamedRecipes } from './named-recipes.ts';
import type { GcProblem } from './problem.ts';
import { add, type Usage } from './usage.ts';

const recipeBounds = { atOnce: 32, bytesMax: Infinity, bytesOf: () => 0 };

export interface SettleOptions {
  store: CopyingStore;
  /** The active one first. */
  roots: readonly [Root, ...Root[]];
  named: NamedRecipes;
  /** Grows with what is copied, also of a settling that fails. */
  copied: Usage;
  onProgress?: ((copied: Usage) => void) | undefined;
  liveChunksMax?: number | undefined;
  signal?: AbortSignal | undefined;
}

export interface Settled {
  /** The recipes that are in the active root, with all of their chunks that are in any root. */
  recipes: RecipeId[];
  problems: GcProblem[];
}

/**
 * A fault of a copy ends it: recipes are copied after all chunks, so what a name means stays
 * readable where it was. Errors: those of the store, and the signal's reason.
 */
export async function settle(options: SettleOptions): Promise<Settled> {
  const { store, roots, named, copied, onProgress, liveChunksMax, signal } = options;
  const [active] = roots;
  const copy = async (kind: 'chunk' | 'recipe', copying: Copying): Promise<boolean> => {
    const { from, key, sizeBytes } = copying;
    const prefixOf = kind === 'chunk' ? chunksPrefix : recipesPrefix;
    const [source, target] = [`${prefixOf(from.id)}/${key}`, `${prefixOf(active.id)}/${key}`];
    // A chunk that a push has put there meanwhile is known to be whole; a recipe there is damaged.
    const options = { ifAbsent: kind === 'chunk', signal: copying.signal };
    if (!(await store.copy(source, target, options))) return false;
    add(copied, kind, sizeBytes);
    onProgress?.(copied);
    return true;
  };
  const recipes = await findRecipes(roots, named, { signal });
  const lost = await walkChunks({
    roots,
    recipes,
    visit: async ({ root, id, sizeBytes, isFirst }, aborting) => {
      if (!isFirst || root === active) return true;
      return copy('chunk', { from: root, key: chunkObjectKey(id), sizeBytes, signal: aborting });
    },
    liveChunksMax,
    signal,
  });
  const settled: RecipeId[] = [];
  await inParallel(recipes, { ...recipeBounds, signal }, async (recipe, aborting) => {
    const { id, sizeBytes } = recipe;
    for (let from = recipe.places[0]; from !== undefined; from = recipe.places[0]) {
      const copying = { from, key: recipeObjectKey(id), sizeBytes, signal: aborting };
      if (from === active || (await copy('recipe', copying))) return void settled.push(id);
      recipe.places.shift();
    }
  });
  return { recipes: settled, problems: [...recipeProblems(recipes), ...lost] };
}

interface Copying {
  from: Root;
  key: string;
  sizeBytes: number;
  signal: AbortSignal;
}
