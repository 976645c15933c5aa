/**
 * One root, looked at without any owner key: whether every chunk and every recipe is what its id
 * says, whoever's it is, and whether every chunk that a recipe needs is there.
 *
 * Chunks are looked at in passes of as many folders as their ids fit into memory, and after those of
 * a pass the recipes that need them. A push may work meanwhile: a chunk that is needed and was not
 * found whole is looked at once more before that is a fault.
 */

import { type ChunkId, isHexDigest, type RecipeId, sha256Hex } from '../base/digest.ts';
import { DigestSet } from '../base/digest-set.ts';
import { isObjectDamage } from '../base/errors.ts';
import { release } from '../base/external-memory.ts';
import { inParallel } from '../base/in-parallel.ts';
import { MiB, recipeSizeMaxBytes, sealedChunkSizeMaxBytes } from '../base/limits.ts';
import { isIntactRecipe, publicChunkIds } from '../recipe/sealed-recipe.ts';
import {
  chunkIdOfObjectKey,
  chunkObjectKey,
  recipeObjectKey,
  rootPrefix,
} from '../store/format.ts';
import type { Root } from '../store/roots.ts';
import { addNames, type ScrubFault, ScrubFindings } from './scrub-findings.ts';

const chunksAtOnce = 32;
const chunksAtOnceMaxBytes = 32 * MiB;
const recipesAtOnce = 8;
const recipesAtOnceMaxBytes = 64 * MiB;
/** Of each recipe that is looked at. */
const secondLooksAtOnce = 4;
const folders = 256;

export interface ScrubBounds {
  /** Chunks of one pass: 16 to 32 bytes each. */
  chunksOfPassMax: number;
  /** With up to this many chunks their list is kept, so that no folder is listed again. */
  chunksListedMax: number;
}

const defaultBounds: ScrubBounds = { chunksOfPassMax: 3_000_000, chunksListedMax: 50_000 };

export interface RootScrubOptions {
  /** By recipe. */
  names: ReadonlyMap<RecipeId, readonly string[]>;
  onProgress: (doneBytes: number, totalBytes: number) => void;
  bounds?: ScrubBounds | undefined;
  signal?: AbortSignal | undefined;
}

export interface RootSurvey {
  chunks: number;
  chunkBytes: number;
  recipes: number;
  recipeBytes: number;
}

interface Listed<Id> {
  id: Id;
  sizeBytes: number;
}

/** Folders of chunks, from the first to before the last. */
interface Pass {
  from: number;
  end: number;
}

export class RootScrub {
  readonly findings = new ScrubFindings();
  /** Of the recipes that are there, whole or not. */
  readonly recipeIds = new Set<RecipeId>();
  readonly #root: Root;
  readonly #options: RootScrubOptions;
  readonly #bounds: ScrubBounds;
  readonly #listing: { signal?: AbortSignal };
  readonly #chunksIn = new Uint32Array(folders);
  /** All chunks, if they are few. */
  #listed: Listed<ChunkId>[] | undefined = [];
  #whole = new DigestSet();
  #faulty = new DigestSet();
  #faults = new Map<ChunkId, ScrubFault>();
  #doneBytes = 0;
  #totalBytes = 0;

  constructor(root: Root, options: RootScrubOptions) {
    this.#root = root;
    this.#options = options;
    this.#bounds = options.bounds ?? defaultBounds;
    this.#listing = options.signal === undefined ? {} : { signal: options.signal };
  }

  /** Counts what is there; before `run`. Errors: those of the store. */
  async survey(): Promise<RootSurvey> {
    const survey = { chunks: 0, chunkBytes: 0, recipes: 0, recipeBytes: 0 };
    for await (const { key, sizeBytes } of this.#root.chunks.list('', this.#listing)) {
      const id = chunkIdOfObjectKey(key);
      if (id === undefined) this.findings.foreignObject(this.#keyOf(`chunks/${key}`));
      else {
        survey.chunks++;
        survey.chunkBytes += sizeBytes;
        this.#chunksIn[folderOf(id)]!++;
        if (survey.chunks > this.#bounds.chunksListedMax) this.#listed = undefined;
        this.#listed?.push({ id, sizeBytes });
      }
    }
    for await (const { key, sizeBytes } of this.#root.recipes.list('', this.#listing)) {
      if (!isHexDigest(key)) this.findings.foreignObject(this.#keyOf(`recipes/${key}`));
      else {
        survey.recipes++;
        survey.recipeBytes += sizeBytes;
      }
    }
    this.#totalBytes = survey.chunkBytes + survey.recipeBytes;
    return survey;
  }

  /** Looks at everything. Errors: UNAVAILABLE of the store, and the signal's reason. */
  async run(): Promise<void> {
    const { signal } = this.#options;
    const ofChunks = { atOnce: chunksAtOnce, bytesMax: chunksAtOnceMaxBytes, bytesOf, signal };
    const ofRecipes = { atOnce: recipesAtOnce, bytesMax: recipesAtOnceMaxBytes, bytesOf, signal };
    for (let from = 0; from < folders; ) {
      const pass = { from, end: this.#endOfPass(from) };
      this.#whole = new DigestSet();
      this.#faulty = new DigestSet();
      this.#faults = new Map();
      await inParallel(this.#chunksOf(pass), ofChunks, async ({ id, sizeBytes }, aborting) => {
        await this.#lookAtChunk(id, { isNeeded: false, signal: aborting });
        this.#advance(sizeBytes);
      });
      await inParallel(this.#recipes(), ofRecipes, async ({ id, sizeBytes }, aborting) => {
        await this.#lookAtRecipe(id, pass, aborting);
        if (from === 0) this.#advance(sizeBytes);
      });
      from = pass.end;
    }
  }

  /** At least one folder. */
  #endOfPass(from: number): number {
    if (this.#listed !== undefined) return folders;
    let end = from + 1;
    let count = this.#chunksIn[from]!;
    while (end < folders && count + this.#chunksIn[end]! <= this.#bounds.chunksOfPassMax) {
      count += this.#chunksIn[end++]!;
    }
    return end;
  }

  async *#chunksOf({ from, end }: Pass): AsyncGenerator<Listed<ChunkId>, void, undefined> {
    if (this.#listed !== undefined) return yield* this.#listed;
    for (let folder = from; folder < end; folder++) {
      if (this.#chunksIn[folder] === 0) continue;
      const prefix = folder.toString(16).padStart(2, '0');
      for await (const { key, sizeBytes } of this.#root.chunks.list(prefix, this.#listing)) {
        const id = chunkIdOfObjectKey(key);
        if (id !== undefined) yield { id, sizeBytes };
      }
    }
  }

  async *#recipes(): AsyncGenerator<Listed<RecipeId>, void, undefined> {
    for await (const { key, sizeBytes } of this.#root.recipes.list('', this.#listing)) {
      if (isHexDigest(key)) yield { id: key as RecipeId, sizeBytes };
    }
  }

  /** One that is gone since it was listed is for its recipes to miss. */
  async #lookAtChunk(
    id: ChunkId,
    { isNeeded, signal }: { isNeeded: boolean; signal: AbortSignal },
  ): Promise<void> {
    const key = chunkObjectKey(id);
    const found = await this.#fetch(
      () => this.#root.chunks.get(key, { sizeMaxBytes: sealedChunkSizeMaxBytes, signal }),
      bytes => {
        const isWhole = sha256Hex(bytes) === id;
        release(bytes);
        return isWhole;
      },
      'its SHA-256 is another',
    );
    if (found === 'whole') this.#whole.add(id);
    if (found === 'whole' || (found === 'missing' && !isNeeded)) return;
    if (!this.#faulty.add(id)) return;
    const fault = this.findings.fault({
      what: 'chunk',
      key: this.#keyOf(`chunks/${key}`),
      root: this.#root.id,
      ...describe(found),
    });
    if (fault !== undefined) this.#faults.set(id, fault);
  }

  async #lookAtRecipe(id: RecipeId, pass: Pass, signal: AbortSignal): Promise<void> {
    const names = this.#options.names.get(id) ?? [];
    let chunks: ChunkId[] = [];
    const key = recipeObjectKey(id);
    const found = await this.#fetch(
      () => this.#root.recipes.get(key, { sizeMaxBytes: recipeSizeMaxBytes, signal }),
      bytes => {
        if (!isIntactRecipe(bytes, id)) return false;
        chunks = publicChunkIds(bytes, id);
        return true;
      },
      'its bytes have another id',
    );
    if (found === 'missing') return; // removed since it was listed
    this.recipeIds.add(id);
    if (found !== 'whole') {
      if (pass.from > 0) return;
      const where = { key: this.#keyOf(`recipes/${key}`), root: this.#root.id };
      this.findings.fault({ what: 'recipe', ...where, ...describe(found) }, names);
      return;
    }
    const doubtful = chunks.filter(chunk => isIn(pass, chunk) && !this.#whole.has(chunk));
    const looks = { atOnce: secondLooksAtOnce, bytesMax: Infinity, bytesOf: () => 0, signal };
    await inParallel(doubtful, looks, async (chunk, aborting) => {
      if (this.#faulty.has(chunk)) return;
      await this.#lookAtChunk(chunk, { isNeeded: true, signal: aborting });
    });
    for (const chunk of doubtful) {
      const fault = this.#faults.get(chunk);
      if (fault !== undefined) addNames(fault, names);
    }
  }

  /** What is not 'whole' or 'missing' is damage, in words. */
  async #fetch(
    get: () => Promise<Buffer | undefined>,
    isWhole: (bytes: Buffer) => boolean,
    otherwise: string,
  ): Promise<'whole' | 'missing' | { problem: string }> {
    try {
      const bytes = await get();
      if (bytes === undefined) return 'missing';
      return isWhole(bytes) ? 'whole' : { problem: otherwise };
    } catch (error) {
      this.#options.signal?.throwIfAborted();
      if (!isObjectDamage(error)) throw error;
      return { problem: error.message };
    }
  }

  #advance(sizeBytes: number): void {
    this.#doneBytes += sizeBytes;
    this.#options.onProgress(this.#doneBytes, Math.max(this.#totalBytes, this.#doneBytes));
  }

  #keyOf(key: string): string {
    return `${rootPrefix(this.#root.id)}/${key}`;
  }
}

function describe(found: 'missing' | { problem: string }): Pick<ScrubFault, 'state' | 'problem'> {
  if (found === 'missing') return { state: 'missing', problem: 'it is not in the store' };
  return { state: 'damaged', ...found };
}

function bytesOf({ sizeBytes }: Listed<string>): number {
  return sizeBytes;
}

function folderOf(id: ChunkId): number {
  return Number.parseInt(id.slice(0, 2), 16);
}

function isIn({ from, end }: Pass, id: ChunkId): boolean {
  const folder = folderOf(id);
  return folder >= from && folder < end;
}
