/**
 * The images of one owner in one root: names, and the recipes behind them.
 *
 * Invariants: a name is written after the recipe it means, so what a name means is always whole;
 * nothing is handed out that the owner's key does not vouch for.
 */

import type { RecipeId } from '../base/digest.ts';
import { type ErrorCode, ImgstoreError } from '../base/errors.ts';
import { nameRecordSizeMaxBytes, recipeSizeMaxBytes } from '../base/limits.ts';
import type { OwnerKey } from '../keys/keys.ts';
import { formatImageName, type ImageName, nameObjectKey, nameOfObjectKey } from '../recipe/name.ts';
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
  recipeKeyId,
} from '../recipe/sealed-recipe.ts';
import { recipeObjectKey } from '../store/format.ts';
import type { Root } from '../store/root.ts';

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
}

/** What a listing says of a name. */
export type CatalogEntry =
  | (NamedRecipe & { state: 'readable'; keyId: string })
  /** Of another owner: what it says is not vouched for. */
  | (NamedRecipe & { state: 'other-key'; keyId: string })
  | { state: 'damaged'; name: ImageName; problem: string };

export interface Committed {
  recipeId: RecipeId;
  /** Of the name. */
  changed: 'created' | 'replaced' | 'unchanged';
}

/** Records read ahead by a listing: on S3 each takes tens of milliseconds. */
const listReadsMax = 16;

export class Catalog {
  readonly #names: Root['names'];
  readonly #recipes: Root['recipes'];
  readonly #ownerKey: OwnerKey;

  constructor(root: Pick<Root, 'names' | 'recipes'>, ownerKey: OwnerKey) {
    this.#names = root.names;
    this.#recipes = root.recipes;
    this.#ownerKey = ownerKey;
  }

  /**
   * Which recipe a name means; undefined if there is no such name. Errors: KEY if it is another
   * owner's, CORRUPT, UNSUPPORTED, and those of the store.
   */
  async record(name: ImageName, options: Signal = {}): Promise<NamedRecipe | undefined> {
    const found = await this.#parsedRecord(name, options);
    if (found === undefined) return undefined;
    verifyNameRecord(found, name, this.#ownerKey);
    return { name, recipeId: found.recipeId, pushed: found.pushed };
  }

  /** As record, and opens the recipe. CORRUPT as well if the recipe is gone. */
  async resolve(name: ImageName, options: Signal = {}): Promise<Resolved | undefined> {
    const record = await this.record(name, options);
    if (record === undefined) return undefined;
    const bytes = await this.#recipeBytes(record.recipeId, options);
    if (bytes === undefined) {
      const what = `Cannot open ${formatImageName(name)}`;
      throw new ImgstoreError('CORRUPT', `${what}: recipe ${record.recipeId} is not in the store`, {
        hint: 'Push the image again.',
      });
    }
    return { ...record, recipe: this.#decode(name, bytes, record.recipeId) };
  }

  /** As resolve; no such name is NOT_FOUND. */
  async open(name: ImageName, options: Signal = {}): Promise<Resolved> {
    const resolved = await this.resolve(name, options);
    if (resolved === undefined) throw noSuchName(name);
    return resolved;
  }

  /**
   * Every name of the root, in no promised order; a damaged record does not end the listing.
   * Objects whose keys are not those of names are passed over.
   */
  async *list(options: Signal = {}): AsyncGenerator<CatalogEntry, void, undefined> {
    const ahead: Promise<CatalogEntry | undefined>[] = [];
    for await (const { key } of this.#names.list('', options)) {
      const name = nameOfObjectKey(key);
      if (name === undefined) continue;
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
   * Writes the recipe if it is not there, then has the name mean it; durable when it resolves.
   * `unchanged`: the name meant it already, and keeps its time. With `rewrite` the recipe is written
   * whatever is there, which mends one that is damaged where its id does not show it. Errors: KEY if the name is another
   * owner's: nothing is written then.
   */
  async commit(
    name: ImageName,
    recipe: Recipe,
    { now, rewrite = false, ...options }: Signal & { now: Date; rewrite?: boolean },
  ): Promise<Committed> {
    const before = await this.#replaceable(name, options);
    const { id: recipeId, bytes } = encodeRecipe(recipe, this.#ownerKey);
    await this.#putRecipe(recipeId, bytes, { ...options, rewrite });
    if (before?.recipeId === recipeId) return { recipeId, changed: 'unchanged' };

    const record = encodeNameRecord(name, { recipeId, pushed: now.toISOString() }, this.#ownerKey);
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

  /** A record that this key vouches for means a recipe of this key, so another is damage. */
  #decode(name: ImageName, bytes: Buffer, recipeId: RecipeId): Recipe {
    try {
      return decodeRecipe(bytes, this.#ownerKey, recipeId);
    } catch (error) {
      if (!hasCode(error, ['KEY'])) throw error;
      const what = `Cannot open ${formatImageName(name)}`;
      throw new ImgstoreError('CORRUPT', `${what}: its recipe is sealed for another key than it`, {
        hint: 'Push the image again with --force.',
        cause: error,
      });
    }
  }

  async #recipeBytes(id: RecipeId, options: Signal): Promise<Buffer | undefined> {
    const limits = { ...options, sizeMaxBytes: recipeSizeMaxBytes };
    return this.#recipes.get(recipeObjectKey(id), limits);
  }

  async #entry(name: ImageName, options: Signal): Promise<CatalogEntry | undefined> {
    try {
      const found = await this.#parsedRecord(name, options);
      if (found === undefined) return undefined; // removed since it was listed
      const { recipeId, pushed, keyId } = found;
      if (keyId !== this.#ownerKey.id) return { state: 'other-key', name, recipeId, pushed, keyId };
      verifyNameRecord(found, name, this.#ownerKey);
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
      return await this.record(name, options);
    } catch (error) {
      if (hasCode(error, ['CORRUPT', 'LIMIT'])) return undefined;
      if (!hasCode(error, ['KEY'])) throw error;
      const what = `Cannot push ${formatImageName(name)}`;
      throw new ImgstoreError('KEY', `${what}: another owner key pushed that name`, {
        hint: 'Choose another name, or remove it first with imgstore rm.',
        cause: error,
      });
    }
  }

  async #putRecipe(
    id: RecipeId,
    bytes: Buffer,
    { rewrite, ...options }: Signal & { rewrite: boolean },
  ): Promise<void> {
    const key = recipeObjectKey(id);
    const outcome = await this.#recipes.put(key, bytes, { ...options, ifAbsent: !rewrite });
    if (outcome === 'created') return;
    // A name must not come to mean an object that was damaged meanwhile; ours is known to be right.
    const there = await this.#intactRecipe(id, options);
    if (there?.equals(bytes)) return;
    const keyId = there && recipeKeyId(there);
    if (keyId !== undefined && keyId !== this.#ownerKey.id) {
      throw new ImgstoreError(
        'KEY',
        `Cannot push recipe ${id}: it is there, and rewritten for key ${keyId}`,
        { hint: 'The owner key was rotated: push with the new one.' },
      );
    }
    await this.#recipes.put(key, bytes, { ...options, ifAbsent: false });
  }

  async #intactRecipe(id: RecipeId, options: Signal): Promise<Buffer | undefined> {
    try {
      const bytes = await this.#recipeBytes(id, options);
      return bytes !== undefined && isIntactRecipe(bytes, id) ? bytes : undefined;
    } catch (error) {
      if (hasCode(error, ['LIMIT'])) return undefined;
      throw error;
    }
  }
}

export function noSuchName(name: ImageName): ImgstoreError {
  const text = formatImageName(name);
  return new ImgstoreError('NOT_FOUND', `Cannot find ${text}: the store has no such name`, {
    hint: 'imgstore ls shows what is there.',
  });
}

function hasCode(error: unknown, codes: readonly ErrorCode[]): error is ImgstoreError {
  return error instanceof ImgstoreError && codes.includes(error.code);
}
