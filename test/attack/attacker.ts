/**
 * What attackers of these tests do with what they are said to have. The program and its rules are
 * public: anybody can cut and seal a file as a push does, under whatever salt is at hand.
 */

import type { ChunkId, RecipeId } from '../../src/base/digest.ts';
import { blockSizeBytes } from '../../src/base/limits.ts';
import { RunChunker } from '../../src/chunk/run-chunker.ts';
import { DedupSalt, type OwnerKey } from '../../src/keys/keys.ts';
import type { PushReport } from '../../src/push/push.ts';
import { pushImage } from '../../src/push/push.ts';
import type { Recipe } from '../../src/recipe/recipe.ts';
import { publicChunkIds } from '../../src/recipe/sealed-recipe.ts';
import { chunkKey, type SealedChunk, sealChunk } from '../../src/seal/seal.ts';
import { chunkIdOfObjectKey, chunkObjectKey } from '../../src/store/format.ts';
import type { Roots } from '../../src/store/roots.ts';
import { TestCatalog } from '../support/catalogs.ts';
import type { MemoryStore } from '../support/memory-store.ts';
import { TestImage, targetOn, salt as usualSalt } from '../support/pushing.ts';
import { ownerKey as usualKey } from '../support/recipes.ts';
import type { LayerEntry } from '../support/tar-builder.ts';

/** A salt that nobody else has: what is left to who was told none. */
export const ownSalt = new DedupSalt(Buffer.alloc(32, 0x11));

/** The chunks that a push under the salt makes of a file of 64 KiB or more. */
export function sealedChunksOf(file: Buffer, { bytes }: DedupSalt): SealedChunk[] {
  const sealed: SealedChunk[] = [];
  const chunker = new RunChunker(plain => {
    sealed.push(sealChunk(plain, chunkKey(plain, bytes)));
    return undefined;
  });
  chunker.write(file);
  chunker.end({ alignBytes: blockSizeBytes });
  return sealed;
}

/** Ids of the chunks that a store lists, with their sizes. */
export function listedChunks(store: MemoryStore): Map<ChunkId, number> {
  const chunks = new Map<ChunkId, number>();
  for (const [key, { bytes }] of store.objects) {
    const id = chunkIdOfObjectKey(key.replace(/^roots\/r[0-9]+\/chunks\//, ''));
    if (id !== undefined) chunks.set(id, bytes.length);
  }
  return chunks;
}

/** Of each recipe that a store lists, the sizes of its chunks in the order in which it names them. */
export function listedSizes(store: MemoryStore): Map<RecipeId, number[]> {
  const chunks = listedChunks(store);
  const sizes = new Map<RecipeId, number[]>();
  for (const [key, { bytes }] of store.objects) {
    const [, id] = /^roots\/r[0-9]+\/recipes\/([0-9a-f]{64})$/.exec(key) ?? [];
    if (id === undefined) continue;
    const ids = publicChunkIds(bytes, id as RecipeId);
    sizes.set(
      id as RecipeId,
      ids.map(chunk => chunks.get(chunk)!),
    );
  }
  return sizes;
}

export function chunkKeyIn(store: MemoryStore, id: ChunkId): string {
  const found = [...store.objects.keys()].find(key =>
    key.endsWith(`/chunks/${chunkObjectKey(id)}`),
  );
  if (found === undefined) throw new Error(`no root has chunk ${id}`);
  return found;
}

export interface Pushed {
  report: PushReport;
  recipe: Recipe;
  roots: Roots;
}

/** An honest push of an image with these files. */
export async function push(
  store: MemoryStore,
  name: string,
  files: readonly LayerEntry[],
  options: { salt?: DedupSalt; ownerKey?: OwnerKey; rewrite?: boolean } = {},
): Promise<Pushed> {
  const { salt = usualSalt, ownerKey = usualKey, rewrite = false } = options;
  const target = await targetOn(store, name, { salt, rewrite });
  const catalog = new TestCatalog(target.roots, ownerKey);
  const report = await pushImage(new TestImage([files]), { ...target, catalog });
  const { recipe } = await catalog.open(target.name);
  return { report, recipe, roots: target.roots };
}
