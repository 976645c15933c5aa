/**
 * The chunks that a push need not store: those of the owner's recipes in the active root, found
 * without a request per chunk. A root never loses single chunks, so a live recipe vouches for its
 * chunks; what a fault of the store took is mended by a push with `rewrite`.
 *
 * Recipes of the same repository come first, then the newest; bounded, since the rest only costs a
 * seal and a put that finds the object there.
 */

import { ImgstoreError } from '../base/errors.ts';
import type { Catalog } from '../catalog/catalog.ts';
import type { ImageName } from '../recipe/name.ts';
import type { StoredChunk } from './chunk-uploader.ts';

const recipesMax = 32;
const chunksMax = 500_000;

export async function knownChunks(
  catalog: Catalog,
  name: ImageName,
  options: { saltId: string; signal?: AbortSignal | undefined },
): Promise<Map<string, StoredChunk>> {
  const candidates: { name: ImageName; pushed: string; recipeId: string }[] = [];
  for await (const entry of catalog.list()) {
    if (entry.state === 'readable') candidates.push(entry);
  }
  const rank = (entry: { name: ImageName }) => (entry.name.name === name.name ? 0 : 1);
  candidates.sort((a, b) => rank(a) - rank(b) || (a.pushed < b.pushed ? 1 : -1));
  const known = new Map<string, StoredChunk>();
  const seen = new Set<string>();
  for (const candidate of candidates) {
    if (seen.size >= recipesMax || known.size >= chunksMax) break;
    if (seen.has(candidate.recipeId)) continue;
    seen.add(candidate.recipeId);
    await addChunksOf(catalog, candidate.name, known, options);
  }
  return known;
}

async function addChunksOf(
  catalog: Catalog,
  name: ImageName,
  known: Map<string, StoredChunk>,
  options: { saltId: string; signal?: AbortSignal | undefined },
): Promise<void> {
  options.signal?.throwIfAborted();
  try {
    const resolved = await catalog.resolve(name);
    if (resolved?.recipe.details.saltId !== options.saltId) return;
    for (const segment of resolved.recipe.segments) {
      if (segment.kind === 'chunk') known.set(segment.key.toString('hex'), segment);
    }
  } catch (error) {
    // A damaged recipe vouches for nothing; its image's own push or verify reports it.
    if (!(error instanceof ImgstoreError)) throw error;
  }
}
