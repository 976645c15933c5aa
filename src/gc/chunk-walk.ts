/**
 * A walk over the chunks of roots that tells, for each, whether a recipe needs it and whether a
 * root before has it. Memory is bounded: the ids of needed chunks are held for a range of the 256
 * folders at a time, and the recipes read again for the next range.
 */

import type { ChunkId } from '../base/digest.ts';
import { DigestSet } from '../base/digest-set.ts';
import { inParallel } from '../base/in-parallel.ts';
import { chunkIdOfObjectKey } from '../store/format.ts';
import type { ObjectStat } from '../store/object-store.ts';
import type { Root } from '../store/roots.ts';
import { type LiveRecipe, readRecipes } from './live-recipes.ts';
import type { GcProblem } from './problem.ts';

/** Of each range; a pair of sets takes 30 to 90 bytes an id. */
export const liveChunksMax = 2 ** 20;
/** Enough for a store that takes tens of milliseconds to answer, and what S3 is asked at once. */
const visitsAtOnce = 32;
const folders = 256;

export interface WalkedChunk {
  root: Root;
  id: ChunkId;
  sizeBytes: number;
  modified: Date;
  isLive: boolean;
  /** It is live, and none of the roots before has it. */
  isFirst: boolean;
}

export interface WalkOptions {
  /** In the order in which they are walked. */
  roots: readonly Root[];
  recipes: readonly LiveRecipe[];
  /** False if the chunk is not there after all. */
  visit: (chunk: WalkedChunk, signal: AbortSignal) => Promise<boolean>;
  liveChunksMax?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** From the first folder to before the last. */
interface Range {
  from: number;
  end: number;
}

/**
 * One list a root, or of a folder a root where there are several ranges. The problems are recipes
 * with chunks that no root has. Errors: of `visit` and the store, and the signal's reason.
 */
export async function walkChunks(options: WalkOptions): Promise<GcProblem[]> {
  const { recipes, signal } = options;
  const lost = new Map<LiveRecipe, number>();
  for (const range = { from: 0, end: folders }; range.from < folders; ) {
    const live = await liveIn(range, options);
    if (live === undefined) {
      range.end = range.from + Math.ceil((range.end - range.from) / 2);
      continue;
    }
    const there = new DigestSet();
    for (const root of options.roots) await walkRange(root, range, { live, there, ...options });
    if (there.size < live.size) {
      await readRecipes(recipes, signal, (ids, recipe) => {
        const missing = ids.filter(id => isIn(range, id) && !there.has(id)).length;
        if (missing > 0) lost.set(recipe, (lost.get(recipe) ?? 0) + missing);
      });
    }
    const width = range.end - range.from;
    range.from = range.end;
    range.end = Math.min(folders, range.from + width);
  }
  return [...lost].map(([{ names }, count]) => {
    const chunks = count === 1 ? '1 chunk of it is' : `${count} chunks of it are`;
    return { what: 'chunks-lost', names, problem: `${chunks} in no root` };
  });
}

/** Undefined if they are too many and the range can be divided. */
async function liveIn(range: Range, options: WalkOptions): Promise<DigestSet | undefined> {
  const max = options.liveChunksMax ?? liveChunksMax;
  const isFull = () => live.size > max && range.end - range.from > 1;
  const live = new DigestSet();
  await readRecipes(options.recipes, options.signal, ids => {
    for (const id of ids) {
      if (isFull()) return;
      if (isIn(range, id)) live.add(id);
    }
  });
  return isFull() ? undefined : live;
}

async function walkRange(
  root: Root,
  range: Range,
  { live, there, visit, signal }: WalkOptions & { live: DigestSet; there: DigestSet },
): Promise<void> {
  const bounds = { atOnce: visitsAtOnce, bytesMax: Infinity, bytesOf: () => 0, signal };
  const chunks = chunksOf(root, range, signal);
  await inParallel(chunks, bounds, async ({ id, sizeBytes, modified }, aborting) => {
    const isLive = live.has(id);
    const isFirst = isLive && !there.has(id);
    const isThere = await visit({ root, id, sizeBytes, modified, isLive, isFirst }, aborting);
    if (isFirst && isThere) there.add(id);
  });
}

async function* chunksOf(
  root: Root,
  range: Range,
  signal: AbortSignal | undefined,
): AsyncGenerator<ObjectStat & { id: ChunkId }, void, undefined> {
  const isAll = range.end - range.from === folders;
  const first = isAll ? folders - 1 : range.from;
  for (let folder = first; folder < range.end; folder++) {
    const prefix = isAll ? '' : folder.toString(16).padStart(2, '0');
    for await (const object of root.chunks.list(prefix, signal && { signal })) {
      const id = chunkIdOfObjectKey(object.key);
      if (id !== undefined) yield { ...object, id };
    }
  }
}

function isIn({ from, end }: Range, id: ChunkId): boolean {
  const folder = Number.parseInt(id.slice(0, 2), 16);
  return folder >= from && folder < end;
}
