/**
 * The chunks that a push need not store: those of the owner's recipes in the active root, found
 * without a request per chunk. A root never loses single chunks, so a live recipe vouches for its
 * chunks; what a fault of the store took is mended by a push with `rewrite`.
 *
 * Recipes of the same repository come first, then the newest; bounded, since the rest only costs a
 * seal and a put that finds the object there.
 */

import { ImgstoreError } from '../base/errors.ts';
import type { Catalog, NamedRecipe } from '../catalog/catalog.ts';
import type { ImageName } from '../recipe/name.ts';
import type { Recipe } from '../recipe/recipe.ts';
import type { StoredChunk } from './chunk-uploader.ts';

const recipesMax = 32;
/** Read at once: on S3 each takes tens of milliseconds. */
const recipeReadsMax = 8;
/** About 400 bytes of memory each; no recipe is begun beyond it. */
const chunksMax = 250_000;

interface Options {
  saltId: string;
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
  for (let at = 0; at < candidates.length && known.size < chunksMax; at += recipeReadsMax) {
    const some = candidates.slice(at, at + recipeReadsMax);
    const recipes = await Promise.all(some.map(entry => readable(catalog, entry.name, options)));
    for (const recipe of recipes) {
      if (recipe !== undefined && known.size < chunksMax) addChunks(recipe, known);
    }
  }
  return known;
}

async function nearestRecipes(
  catalog: Catalog,
  name: ImageName,
  { signal }: Options,
): Promise<NamedRecipe[]> {
  const byRecipe = new Map<string, NamedRecipe>();
  const isNear = (entry: NamedRecipe) => entry.name.name === name.name;
  for await (const entry of catalog.list(signal === undefined ? {} : { signal })) {
    if (entry.state !== 'readable') continue;
    const same = byRecipe.get(entry.recipeId);
    if (same === undefined || !isNear(same)) byRecipe.set(entry.recipeId, entry);
  }
  const rank = (entry: NamedRecipe) => (isNear(entry) ? 0 : 1);
  return [...byRecipe.values()]
    .sort((a, b) => rank(a) - rank(b) || (a.pushed < b.pushed ? 1 : -1))
    .slice(0, recipesMax);
}

/** Undefined if it vouches for nothing: removed since, damaged, or of another salt. */
async function readable(
  catalog: Catalog,
  name: ImageName,
  { saltId, signal }: Options,
): Promise<Recipe | undefined> {
  try {
    const resolved = await catalog.resolve(name, signal === undefined ? {} : { signal });
    return resolved?.recipe.details.saltId === saltId ? resolved.recipe : undefined;
  } catch (error) {
    if (isUnreadable(error)) return undefined;
    throw error;
  }
}

function addChunks(recipe: Recipe, known: Map<string, StoredChunk>): void {
  for (const segment of recipe.segments) {
    if (segment.kind === 'chunk') known.set(segment.key.toString('hex'), segment);
  }
}

/** The push or verification of its own image reports it. */
function isUnreadable(error: unknown): boolean {
  if (!(error instanceof ImgstoreError)) return false;
  return ['CORRUPT', 'UNSUPPORTED', 'LIMIT', 'KEY'].includes(error.code);
}
