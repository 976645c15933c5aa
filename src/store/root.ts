/**
 * The way into a store: its documents, and the root that pushes write to and readers read from.
 *
 * Everything lies in a root, so that garbage collection can copy what lives into a new one and
 * delete the old one whole. Invariant: the store document is written before anything else, by an
 * atomic put if absent, so two first pushes at once make one store.
 */

import { ImgstoreError } from '../base/errors.ts';
import { storeDocumentSizeMaxBytes } from '../base/limits.ts';
import {
  checkStoreDocument,
  firstRootId,
  formatRootsDocument,
  formatStoreDocument,
  parseRootsDocument,
  rootsDocumentKey,
  storeDocumentKey,
} from './format.ts';
import type { ObjectStore } from './object-store.ts';
import { scoped } from './scoped.ts';

export interface Root {
  readonly id: string;
  /** Sealed chunks, by `chunkObjectKey`. */
  readonly chunks: ObjectStore;
  /** Sealed recipes, by `recipeObjectKey`. */
  readonly recipes: ObjectStore;
  readonly names: ObjectStore;
  /**
   * Whether the store is still there. A folder that was unmounted, or a bucket that another one took
   * the place of, looks like a store without the object asked for: this tells the two apart.
   */
  isPresent(options?: { signal?: AbortSignal }): Promise<boolean>;
}

/**
 * The active root. Without a store: NOT_FOUND, or with `create` a new one in an empty place; a place
 * that holds other things is USAGE. Another format is UNSUPPORTED, damaged documents are CORRUPT.
 */
export async function openRoot(store: ObjectStore, options: { create: boolean }): Promise<Root> {
  const document = await readDocument(store, storeDocumentKey);
  if (document !== undefined) checkStoreDocument(document, store.location);
  else if (options.create) await createStore(store);
  else throw noStore(store);
  const roots = await readDocument(store, rootsDocumentKey);
  if (roots !== undefined) return activeRoot(store, roots);
  if (!options.create) throw noStore(store);
  // A first push that ended between the two documents, or one that runs right now.
  const first = formatRootsDocument([{ id: firstRootId, state: 'active' }]);
  await store.put(rootsDocumentKey, first, { ifAbsent: true });
  return activeRoot(store, (await readDocument(store, rootsDocumentKey)) ?? first);
}

async function readDocument(store: ObjectStore, key: string): Promise<Buffer | undefined> {
  return store.get(key, { sizeMaxBytes: storeDocumentSizeMaxBytes });
}

async function createStore(store: ObjectStore): Promise<void> {
  const empty = await isEmpty(store);
  // Another first push may have made the store since we looked: then it is not empty, and ours.
  const document = await readDocument(store, storeDocumentKey);
  if (document !== undefined) return checkStoreDocument(document, store.location);
  if (!empty) {
    throw new ImgstoreError(
      'USAGE',
      `Cannot make a store in ${store.location}: other things are there and no ${storeDocumentKey}`,
      { hint: 'Name an empty place, or the folder that holds the store.' },
    );
  }
  const outcome = await store.put(storeDocumentKey, formatStoreDocument(), { ifAbsent: true });
  if (outcome === 'created') return;
  const theirs = await readDocument(store, storeDocumentKey);
  if (theirs !== undefined) checkStoreDocument(theirs, store.location);
}

async function isEmpty(store: ObjectStore): Promise<boolean> {
  for await (const _ of store.list('')) return false;
  return true;
}

function noStore(store: ObjectStore): ImgstoreError {
  return new ImgstoreError(
    'NOT_FOUND',
    `Cannot open the store ${store.location}: no store is there`,
    {
      hint: 'Check the path; the first push makes a store.',
    },
  );
}

function activeRoot(store: ObjectStore, document: Uint8Array): Root {
  const roots = parseRootsDocument(document, store.location);
  const { id } = roots.find(root => root.state === 'active')!;
  return {
    id,
    chunks: scoped(store, `roots/${id}/chunks`),
    recipes: scoped(store, `roots/${id}/recipes`),
    names: scoped(store, `roots/${id}/names`),
    isPresent: async options => (await store.stat(storeDocumentKey, options)) !== undefined,
  };
}
