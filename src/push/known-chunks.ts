/**
 * The chunks that a push need not store: those of its owner's recipes in its root, found without a
 * request per chunk. A root never loses single chunks, so a recipe in it vouches for its chunks;
 * what a fault of the store took is mended by a push with `rewrite`. Recipes of others whose keys
 * are held vouch for nothing: beside a chunk's key they may name an object of other bytes.
 *
 * Names of the same repository come first, then the newest; bounded, since the rest only costs a
 * seal and a put that finds the object there. Which names are nearest is told by one listing, so a
 * store may hold any number of them.
 */

import { hasCode } from '../base/errors.ts';
import type { Catalog, NamedRecipe } from '../catalog/catalog.ts';
import type { ImageName } from '../recipe/name.ts';
import type { Recipe } from '../recipe/recipe.ts';
import type { RootId } from '../store/format.ts';
import type { StoredChunk } from './chunk-uploader.ts';

const recipesMax = 32;
/** Several names may mean one recipe. */
const recordsMax = 2 * recipesMax;
/** Read at once: on S3 each takes tens of milliseconds. */
const readsMax = 8;
/** About 400 bytes of memory each; no recipe is begun beyond it. */
const chunksMax = 250_000;

interface Options {
  saltId: string;
  root: RootId;
  signal?: AbortSignal | undefined;
}

/** By chunk key in hexadecimal. Errors: those of the store, and the signal's reason. */
export async function knownChunks(
  catalog: Catalog,
  name: ImageName,
  options: Options,
): Promise<Map<string, StoredChunk>> {
  const known = new Map<string, StoredChunk>();
  const candidates = await nearestRecipes(catalog, name, options);
  for (let at = 0; at < candidates.length && known.size < chunksMax; at += readsMax) {
    const some = candidates.slice(at, at + readsMax);
    const recipes = await Promise.all(some.map(record => recipeOf(catalog, record, options)));
    for (const recipe of recipes) {
      if (recipe !== undefined && known.size < chunksMax) addChunks(recipe, known);
    }
  }
  return known;
}

interface Candidate {
  name: ImageName;
  written: Date;
  rank: number;
}

function nearestOf(candidates: Candidate[]): Candidate[] {
  return candidates
    .sort((a, b) => a.rank - b.rank || b.written.getTime() - a.written.getTime())
    .slice(0, recordsMax);
}

/** One name for each of the nearest recipes. */
async function nearestRecipes(
  catalog: Catalog,
  name: ImageName,
  { signal }: Options,
): Promise<NamedRecipe[]> {
  const aborting = signal === undefined ? {} : { signal };
  let nearest: Candidate[] = [];
  for await (const found of catalog.names(aborting)) {
    nearest.push({ ...found, rank: found.name.name === name.name ? 0 : 1 });
    if (nearest.length === 16 * recordsMax) nearest = nearestOf(nearest);
  }
  nearest = nearestOf(nearest);
  const byRecipe = new Map<string, NamedRecipe>();
  for (let at = 0; at < nearest.length; at += readsMax) {
    const some = nearest.slice(at, at + readsMax);
    const records = await Promise.all(
      some.map(({ name: of }) => unlessUnreadable(catalog.ownRecord(of, aborting))),
    );
    for (const record of records) {
      if (record !== undefined && !byRecipe.has(record.recipeId))
        byRecipe.set(record.recipeId, record);
    }
  }
  return [...byRecipe.values()].slice(0, recipesMax);
}

/** Undefined if it vouches for nothing: removed since, damaged, of another root or salt. */
async function recipeOf(
  catalog: Catalog,
  record: NamedRecipe,
  { saltId, root, signal }: Options,
): Promise<Recipe | undefined> {
  const options = signal === undefined ? {} : { signal };
  const resolved = await unlessUnreadable(catalog.openRecord(record, options));
  const isHere = resolved?.root === root && resolved.recipe.details.saltId === saltId;
  return isHere ? resolved.recipe : undefined;
}

function addChunks(recipe: Recipe, known: Map<string, StoredChunk>): void {
  for (const segment of recipe.segments) {
    if (segment.kind === 'chunk') known.set(segment.key.toString('hex'), segment);
  }
}

/** The push or verification of its own image reports it. */
async function unlessUnreadable<V>(reading: Promise<V>): Promise<V | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (hasCode(error, ['CORRUPT', 'UNSUPPORTED', 'LIMIT', 'KEY'])) return undefined;
    throw error;
  }
}
