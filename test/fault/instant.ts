/**
 * What holds at every instant of a store, also in the middle of pushes and collections: what a name
 * means lies whole in a root that is not being deleted. Looked at without any request.
 */

import assert from 'node:assert/strict';
import type { ChunkId } from '../../src/base/digest.ts';
import { formatImageName, nameOfObjectKey } from '../../src/recipe/name.ts';
import { parseNameRecord } from '../../src/recipe/name-record.ts';
import { publicChunkIds } from '../../src/recipe/sealed-recipe.ts';
import {
  chunkObjectKey,
  namesPrefix,
  parseStateKey,
  statesPrefix,
} from '../../src/store/format.ts';
import type { MemoryStore } from '../support/memory-store.ts';

/**
 * `together`: a recipe and all of its chunks in one root, which pushes rely on. A collection that is
 * shown a list of yesterday may leave a chunk behind for a while, though never for good.
 */
export function assertNamesWhole(
  { objects }: MemoryStore,
  { together }: { together: boolean },
): void {
  const opened = new Set<string>();
  const deleted = new Set<string>();
  for (const key of objects.keys()) {
    if (!key.startsWith(`${statesPrefix}/`)) continue;
    const state = parseStateKey(key.slice(statesPrefix.length + 1));
    if (state?.fact === 'opened') opened.add(state.root);
    if (state?.fact === 'deleted') deleted.add(state.root);
  }
  const readable = [...opened].filter(root => !deleted.has(root));
  for (const [key, { bytes }] of objects) {
    if (!key.startsWith(`${namesPrefix}/`)) continue;
    const name = nameOfObjectKey(key.slice(namesPrefix.length + 1))!;
    const { recipeId } = parseNameRecord(bytes, name);
    const text = `${formatImageName(name)} means ${recipeId}`;
    const recipes = readable.filter(root => objects.has(`roots/${root}/recipes/${recipeId}`));
    assert.ok(recipes.length > 0, `${text}, which is in no root`);
    const { bytes: recipe } = objects.get(`roots/${recipes[0]}/recipes/${recipeId}`)!;
    const chunks = publicChunkIds(recipe, recipeId);
    const lacks = (roots: readonly string[]) => {
      const isThere = (id: ChunkId) =>
        roots.some(root => objects.has(`roots/${root}/chunks/${chunkObjectKey(id)}`));
      return chunks.filter(id => !isThere(id));
    };
    assert.deepEqual(lacks(readable), [], `${text}, of which no chunk is lost`);
    const whole = recipes.filter(root => lacks([root]).length === 0);
    assert.ok(!together || whole.length > 0, `${text}, which is in ${recipes} in part`);
  }
}
