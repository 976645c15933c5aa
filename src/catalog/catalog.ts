/**
 * The images of a store whose owner keys we hold: names, and the recipes behind them, in whatever
 * root these lie.
 *
 * Invariants: a name is written after the recipe it means, so what a name means is always whole;
 * nothing is handed out that an owner's key does not vouch for.
 */

import type { ChunkId, RecipeId } from '../base/digest.ts';
import { hasCode, ImgstoreError } from '../base/errors.ts';
import { nameRecordSizeMaxBytes, recipeSizeMaxBytes } from '../base/limits.ts';
import type { OwnerKey } from '../keys/keys.ts';
import { keyNeeded, type OwnerKeys } from '../keys/owner-keys.ts';
import {
  formatImageName,
  type ImageName,
  type ImageReference,
  nameObjectKey,
  nameOfObjectKey,
} from '../recipe/name.ts';
import {
  encodeNameRecord,
  type NameRecord,
  parseNameRecord,
  verifyNameRecord,
} from '../recipe/name-record.ts';
import type { Recipe } from '../recipe/recipe.ts';
import {
  decodeRecipe,
  encodeRecipe,
  isIntactRecipe,
  publicChunkIds,
  recipeKeyId,
} from '../recipe/sealed-recipe.ts';
import { type RootId, recipeObjectKey } from '../store/format.ts';
import type { ObjectStore } from '../store/object-store.ts';
import type { Root, Roots } from '../store/roots.ts';

interface Signal {
  signal?: AbortSignal;
}

export interface NamedRecipe {
  name: ImageName;
  recipeId: RecipeId;
  /** As Date.toISOString writes it. */
  pushed: string;
}

export interface Resolved extends NamedRecipe {
  recipe: Recipe;
  /** Where the recipe lies: all of its chunks are in the same root. */
  root: RootId;
}

/** Where a push puts its recipe. */
export interface CommitTarget {
  root: Root;
  /** Throws if the root is not to be relied on any more: asked before the name is written. */
  check(): Promise<void>;
}

/** What a listing says of a name. */
export type CatalogEntry =
  | (NamedRecipe & { state: 'readable'; keyId: string })
  /** Of another owner: what it says is not vouched for. */
  | (NamedRecipe & { state: 'other-key'; keyId: string })
  | { state: 'damaged'; name: ImageName; problem: string };

export interface CommitOptions extends Signal {
  now: Date;
  target: CommitTarget;
  rewrite?: boolean;
}

export interface Committed {
  recipeId: RecipeId;
  /** Of the name. */
  changed: 'created' | 'replaced' | 'unchanged';
}

/** Records read ahead by a listing: on S3 each takes tens of milliseconds. */
const listReadsMax = 16;

export class Catalog {
  readonly #roots: Roots;
  readonly #names: ObjectStore;
  readonly #keys: OwnerKeys;

  constructor(roots: Roots, keys: OwnerKeys) {
    this.#roots = roots;
    this.#names = roots.names;
    this.#keys = keys;
  }

  /**
   * Which recipe a name means; undefined if there is no such name. Errors: KEY if it is of an owner
   * whose key is not here, NOT_FOUND if it is pinned to another recipe, CORRUPT, UNSUPPORTED, and
   * those of the store.
   */
  async record(
    { pinned, ...name }: ImageReference,
    options: Signal = {},
  ): Promise<NamedRecipe | undefined> {
    const found = await this.#parsedRecord(name, options);
    if (found === undefined) return undefined;
    const key = await this.#keys.find(found.keyId);
    if (key === undefined) throw keyNeeded(`Cannot open ${formatImageName(name)}`, found.keyId);
    verifyNameRecord(found, name, key);
    if (pinned !== undefined && pinned !== found.recipeId) throw notPinned(name, found, pinned);
    return { name, recipeId: found.recipeId, pushed: found.pushed };
  }

  /**
   * As record, if the key that seals what is pushed vouches for it. To hold another owner's key, or
   * an earlier one, is to read with it, not to push in its name or to believe what it says of chunks.
   * Errors: as record; KEY as well if it is of any other key.
   */
  async ownRecord(name: ImageName, options: Signal = {}): Promise<NamedRecipe | undefined> {
    const found = await this.#parsedRecord(name, options);
    if (found === undefined) return undefined;
    const key = await this.#keys.current();
    if (found.keyId !== key.id) throw notOwn(name, found.keyId);
    verifyNameRecord(found, name, key);
    return { name, recipeId: found.recipeId, pushed: found.pushed };
  }

  /** As record, and opens the recipe. CORRUPT as well if the recipe is gone. */
  async resolve(name: ImageReference, options: Signal = {}): Promise<Resolved | undefined> {
    // Neither waits for the other: on S3 each takes tens of milliseconds.
    const reading = this.record(name, options);
    reading.catch(() => {});
    await this.#roots.view();
    const record = await reading;
    return record && this.openRecord(record, options);
  }

  /** The image of a record that record or ownRecord gave. Errors: as resolve. */
  async openRecord(record: NamedRecipe, options: Signal = {}): Promise<Resolved> {
    const { name, recipeId } = record;
    const hit = await this.#recipeObject(recipeId, options);
    if (hit === undefined) {
      const what = `Cannot open ${formatImageName(name)}`;
      throw new ImgstoreError('CORRUPT', `${what}: recipe ${recipeId} is not in the store`, {
        hint: 'Mend it with imgstore verify --repair, or push the image again.',
      });
    }
    return { ...record, recipe: await this.#decode(name, hit.found, recipeId), root: hit.root.id };
  }

  /** As resolve; no such name is NOT_FOUND. */
  async open(name: ImageReference, options: Signal = {}): Promise<Resolved> {
    const resolved = await this.resolve(name, options);
    if (resolved !== undefined) return resolved;
    await this.#roots.refresh(); // a store that is gone has no names either
    throw noSuchName(name);
  }

  /**
   * Every name and when it was written, by the store's clock, without reading what it means; in no
   * promised order. Objects whose keys are not those of names are passed over.
   */
  async *names(
    options: Signal = {},
  ): AsyncGenerator<{ name: ImageName; written: Date }, void, undefined> {
    await this.#roots.view();
    for await (const { key, modified } of this.#names.list('', options)) {
      const name = nameOfObjectKey(key);
      if (name !== undefined) yield { name, written: modified };
    }
  }

  /** Every name and what it means; a damaged record does not end the listing. */
  async *list(options: Signal = {}): AsyncGenerator<CatalogEntry, void, undefined> {
    const ahead: Promise<CatalogEntry | undefined>[] = [];
    for await (const { name } of this.names(options)) {
      const reading = this.#entry(name, options);
      reading.catch(() => {}); // it is awaited in its turn, or never if an earlier one throws
      ahead.push(reading);
      if (ahead.length < listReadsMax) continue;
      const entry = await ahead.shift();
      if (entry !== undefined) yield entry;
    }
    for (const reading of ahead) {
      const entry = await reading;
      if (entry !== undefined) yield entry;
    }
  }

  /**
   * The distinct chunks of a recipe, whoever's it is, without a key; undefined if it is in no root.
   * Errors: CORRUPT, UNSUPPORTED, LIMIT, and those of the store.
   */
  async chunkIds(recipeId: RecipeId, options: Signal = {}): Promise<ChunkId[] | undefined> {
    const hit = await this.#recipeObject(recipeId, options);
    return hit && publicChunkIds(hit.found, recipeId);
  }

  /**
   * Writes the recipe if it is not there, then has the name mean it; durable when it resolves.
   * `unchanged`: the name meant it already, and keeps its time. With `rewrite` the recipe is written
   * whatever is there, which mends one that is damaged where its id does not show it. Errors: KEY if
   * the name is another owner's: nothing is written then; those of `check`.
   */
  async commit(
    name: ImageName,
    recipe: Recipe,
    { now, target, rewrite = false, ...options }: CommitOptions,
  ): Promise<Committed> {
    const before = await this.#replaceable(name, options);
    const ownerKey = await this.#keys.current();
    const { id: recipeId, bytes } = encodeRecipe(recipe, ownerKey);
    await this.#putRecipe(recipeId, bytes, { ...options, rewrite, ownerKey, root: target.root });
    await target.check();
    if (before?.recipeId === recipeId) return { recipeId, changed: 'unchanged' };

    const record = encodeNameRecord(name, { recipeId, pushed: now.toISOString() }, ownerKey);
    const key = nameObjectKey(name);
    if (before === undefined) {
      const outcome = await this.#names.put(key, record, { ...options, ifAbsent: true });
      if (outcome === 'created') return { recipeId, changed: 'created' };
      await this.#replaceable(name, options); // a push at the same time, or a damaged record
    }
    await this.#names.put(key, record, { ...options, ifAbsent: false });
    return { recipeId, changed: 'replaced' };
  }

  /** True if the name was there. Its recipe and chunks stay until they are collected. */
  async remove(name: ImageName, options: Signal = {}): Promise<boolean> {
    await this.#roots.view();
    const key = nameObjectKey(name);
    const found = await this.#names.stat(key, options);
    if (found === undefined) return false;
    await this.#names.remove(key, options);
    return true;
  }

  async #parsedRecord(name: ImageName, options: Signal): Promise<NameRecord | undefined> {
    const limits = { ...options, sizeMaxBytes: nameRecordSizeMaxBytes };
    const bytes = await this.#names.get(nameObjectKey(name), limits);
    return bytes && parseNameRecord(bytes, name);
  }

  /**
   * The key is the one that the recipe names: an interrupted rotation leaves records and recipes of
   * two keys.
   */
  async #decode(name: ImageName, bytes: Buffer, recipeId: RecipeId): Promise<Recipe> {
    const keyId = recipeKeyId(bytes);
    const key = await this.#keys.find(keyId);
    if (key !== undefined) return decodeRecipe(bytes, key, recipeId);
    const state = `its recipe is sealed for owner key ${keyId}, which is not here and is not its record's`;
    throw new ImgstoreError('CORRUPT', `Cannot open ${formatImageName(name)}: ${state}`, {
      hint: 'If the key was rotated, import the new one; else push the image again with --force.',
    });
  }

  #recipeObject(id: RecipeId, options: Signal): Promise<{ found: Buffer; root: Root } | undefined> {
    return this.#roots.find(root => recipeBytes(root, id, options), `recipe ${id}`);
  }

  async #entry(name: ImageName, options: Signal): Promise<CatalogEntry | undefined> {
    try {
      const found = await this.#parsedRecord(name, options);
      if (found === undefined) return undefined; // removed since it was listed
      const { recipeId, pushed, keyId } = found;
      const key = await this.#keys.find(keyId);
      if (key === undefined) return { state: 'other-key', name, recipeId, pushed, keyId };
      verifyNameRecord(found, name, key);
      return { state: 'readable', name, recipeId, pushed, keyId };
    } catch (error) {
      if (!hasCode(error, ['CORRUPT', 'UNSUPPORTED', 'LIMIT'])) throw error;
      return { state: 'damaged', name, problem: error.message };
    }
  }

  /**
   * What the name means now, if this owner may give it another meaning; undefined if it is absent
   * or damaged, which a push repairs.
   */
  async #replaceable(name: ImageName, options: Signal): Promise<NamedRecipe | undefined> {
    try {
      return await this.ownRecord(name, options);
    } catch (error) {
      if (hasCode(error, ['CORRUPT', 'LIMIT'])) return undefined;
      throw error;
    }
  }

  async #putRecipe(
    id: RecipeId,
    bytes: Buffer,
    { rewrite, ownerKey, root, ...options }: PutRecipeOptions,
  ): Promise<void> {
    const key = recipeObjectKey(id);
    const outcome = await root.recipes.put(key, bytes, { ...options, ifAbsent: !rewrite });
    if (outcome === 'created') return;
    // A name must not come to mean an object that was damaged meanwhile; ours is known to be right.
    const there = await intactRecipe(root, id, options);
    if (there?.equals(bytes)) return;
    const keyId = there && recipeKeyId(there);
    if (keyId !== undefined && keyId !== ownerKey.id) {
      throw new ImgstoreError(
        'KEY',
        `Cannot push recipe ${id}: it is there, and rewritten for key ${keyId}`,
        { hint: 'The owner key was rotated: push with the new one.' },
      );
    }
    await root.recipes.put(key, bytes, { ...options, ifAbsent: false });
  }
}

interface PutRecipeOptions extends Signal {
  rewrite: boolean;
  ownerKey: OwnerKey;
  root: Root;
}

function recipeBytes(root: Root, id: RecipeId, options: Signal): Promise<Buffer | undefined> {
  const limits = { ...options, sizeMaxBytes: recipeSizeMaxBytes };
  return root.recipes.get(recipeObjectKey(id), limits);
}

async function intactRecipe(
  root: Root,
  id: RecipeId,
  options: Signal,
): Promise<Buffer | undefined> {
  try {
    const bytes = await recipeBytes(root, id, options);
    return bytes !== undefined && isIntactRecipe(bytes, id) ? bytes : undefined;
  } catch (error) {
    if (hasCode(error, ['LIMIT'])) return undefined;
    throw error;
  }
}

function notOwn(name: ImageName, keyId: string): ImgstoreError {
  const state = `another owner key pushed that name, ${keyId}`;
  return new ImgstoreError('KEY', `Cannot push ${formatImageName(name)}: ${state}`, {
    hint:
      'Choose another name, or remove it first with imgstore rm. ' +
      'If it is your own of before a rotation, run imgstore key rotate --from that key.',
  });
}

function notPinned(name: ImageName, found: NameRecord, pinned: RecipeId): ImgstoreError {
  const state = `it means recipe ${found.recipeId}, pushed ${found.pushed}, not ${pinned}`;
  return new ImgstoreError('NOT_FOUND', `Cannot open ${formatImageName(name)}: ${state}`, {
    hint: 'It was pushed again, or somebody put an older record in its place: find out which, then pin what you want.',
  });
}

export function noSuchName(name: ImageName): ImgstoreError {
  const text = formatImageName(name);
  return new ImgstoreError('NOT_FOUND', `Cannot find ${text}: the store has no such name`, {
    hint: 'imgstore ls shows what is there.',
  });
}
