/**
 * What all pushes share: where to, how they begin, and the commit. The order is chunks, then the
 * recipe, then the name: whatever stops a push in between, the name means what it meant before.
 */

import { assert } from '../base/assert.ts';
import type { RecipeId } from '../base/digest.ts';
import { hasCode } from '../base/errors.ts';
import type { Catalog, Resolved } from '../catalog/catalog.ts';
import type { DedupSalt } from '../keys/keys.ts';
import type { FlattenProgress } from '../oci/layer/flatten.ts';
import type { ImageName } from '../recipe/name.ts';
import {
  type ChunkSegment,
  type Recipe,
  type RecipeDetails,
  storedSize,
} from '../recipe/recipe.ts';
import { SealerPool } from '../seal/sealer-pool.ts';
import { RootLease } from '../store/lease.ts';
import type { Root, Roots } from '../store/roots.ts';
import { type ChunkTicket, ChunkUploader, type StoredChunk } from './chunk-uploader.ts';
import { knownChunks } from './known-chunks.ts';
import type { LayerMemory } from './memo/layer-memory.ts';

/**
 * Chunks being sealed and stored at once, at most 3 MiB of memory each: enough to keep every thread
 * of the pool and the store's disk busy.
 */
export const chunksInFlightMax = 32;

export type PushProgress =
  | (FlattenProgress & { phase: 'layers' })
  | { phase: 'disk'; readBytes: number; sizeBytes: number }
  | { phase: 'commit' };

export interface PushTarget {
  name: ImageName;
  /** What imageNow said, if it was asked before. */
  before?: { image: Resolved | undefined };
  roots: Roots;
  catalog: Catalog;
  salt: DedupSalt;
  /** Store every chunk again, whatever is there. */
  rewrite: boolean;
  /**
   * Which chunks of the root need not be stored, by key in hexadecimal, for who knows better than
   * the recipes that are in it.
   */
  known?: (root: Root) => Promise<ReadonlyMap<string, StoredChunk>>;
  /** Layers that were pushed from here before; without it, every layer is read. */
  memory?: LayerMemory | undefined;
  now: () => Date;
  onProgress: (progress: PushProgress) => void;
  onWarning: (message: string) => void;
  signal?: AbortSignal | undefined;
}

export interface PushReport {
  recipe: RecipeId;
  /** Of the name. */
  outcome: 'created' | 'replaced' | 'unchanged';
  diskBytes: number;
  /** Sum of the sizes of the image's files. */
  contentBytes: number;
  /** Distinct chunks. */
  chunks: number;
  /** Of these, those that were put by this push: all of them if it rewrites. */
  newChunks: number;
  /** Sealed bytes of the distinct chunks. */
  storedBytes: number;
  newStoredBytes: number;
}

/** What a conversion needs of it. */
export type ConvertTarget = Pick<PushTarget, 'salt' | 'onProgress' | 'onWarning' | 'signal'>;

/**
 * What the name means now; undefined if nothing that can be read, which a push mends. Refuses a
 * name of another owner (KEY) before any work is done.
 */
export async function imageNow(
  target: Pick<PushTarget, 'catalog' | 'roots' | 'name' | 'before' | 'signal'>,
): Promise<Resolved | undefined> {
  if (target.before !== undefined) return target.before.image;
  try {
    await target.roots.view();
    const record = await target.catalog.ownRecord(target.name, signalOf(target));
    return record && (await target.catalog.openRecord(record, signalOf(target)));
  } catch (error) {
    // Damaged, or there is no store yet.
    if (hasCode(error, ['CORRUPT', 'LIMIT', 'NOT_FOUND'])) return undefined;
    throw error;
  }
}

/** What a push holds while it stores something. */
export class PushSession implements AsyncDisposable {
  readonly uploader: ChunkUploader;
  /** That is pushed to. */
  readonly root: Root;
  readonly #lease: RootLease;

  private constructor(lease: RootLease, uploader: ChunkUploader) {
    this.#lease = lease;
    this.root = lease.root;
    this.uploader = uploader;
  }

  /** To be disposed of, so that nothing is put after the push has failed. */
  static async open(target: PushTarget): Promise<PushSession> {
    await target.roots.create();
    const lease = await RootLease.take(target.roots, target.signal);
    try {
      return new PushSession(lease, await openUploader(lease.root, target));
    } catch (error) {
      await lease[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Throws BUSY if what was put is not to be relied on: see RootLease.check. */
  async check(options: { hasReplaced: boolean }): Promise<void> {
    await this.#lease.check(options);
  }

  /** After the uploader has finished: stores the recipe and has the name mean it. */
  async commit(recipe: Recipe, target: PushTarget): Promise<PushReport> {
    const { catalog, name, now, rewrite, signal } = target;
    signal?.throwIfAborted();
    const into = { root: this.root, check: () => this.check({ hasReplaced: rewrite }) };
    const options = { ...signalOf(target), now: now(), rewrite, target: into };
    const { recipeId, changed } = await catalog.commit(name, recipe, options);
    const { newChunks, newStoredBytes } = this.uploader;
    return reportOf({ recipe, recipeId }, changed, { newChunks, newStoredBytes });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.uploader[Symbol.asyncDispose]();
    await this.#lease[Symbol.asyncDispose]();
  }
}

async function openUploader(root: Root, target: PushTarget): Promise<ChunkUploader> {
  const { salt, rewrite, signal } = target;
  return new ChunkUploader({
    chunks: root.chunks,
    sealer: new SealerPool(),
    salt: salt.bytes,
    known: await knownIn(root, target),
    chunksInFlightMax,
    rewrite,
    signal,
  });
}

async function knownIn(
  root: Root,
  { catalog, name, salt, rewrite, known, signal }: PushTarget,
): Promise<ReadonlyMap<string, StoredChunk>> {
  if (known !== undefined) return known(root);
  if (rewrite) return new Map();
  return knownChunks(catalog, name, { saltId: salt.id, root: root.id, signal });
}

export function reportOf(
  { recipe, recipeId }: Pick<Resolved, 'recipe' | 'recipeId'>,
  outcome: PushReport['outcome'],
  added: { newChunks: number; newStoredBytes: number },
): PushReport {
  return {
    recipe: recipeId,
    outcome,
    diskBytes: recipe.diskSizeBytes,
    contentBytes: recipe.details.contentBytes ?? recipe.diskSizeBytes,
    ...storedSize(recipe),
    ...added,
  };
}

/** What finds the salt again, for a repair. */
export function saltDetails(
  salt: DedupSalt,
): Pick<RecipeDetails, 'saltId' | 'saltDomain' | 'saltEpoch'> {
  const { id, domain, epoch } = salt;
  return {
    saltId: id,
    ...(domain !== undefined && { saltDomain: domain }),
    ...(epoch !== undefined && { saltEpoch: epoch }),
  };
}

/** Of a chunk whose uploader has finished. */
export function segmentOf({ stored }: ChunkTicket): ChunkSegment {
  assert(stored !== undefined, 'every chunk is stored before the recipe is made');
  return { kind: 'chunk', ...stored };
}

/** As options of functions that take no undefined signal. */
export function signalOf({ signal }: Pick<PushTarget, 'signal'>): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}
