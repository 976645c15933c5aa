/**
 * The documents and keys of a store, as docs/format/store-layout.md describes them. What a store
 * holds is not trusted: sizes, shapes and names are checked, and what is not known is ignored.
 */

import type { ChunkId, RecipeId } from '../base/digest.ts';
import { isHexDigest } from '../base/digest.ts';
import { ImgstoreError } from '../base/errors.ts';

/** Of the layout: keys, documents, and how objects are sealed. Any other number is refused. */
export const storeFormat = 1;

/** Says that a folder or bucket is a store, and of which format. Written first, never changed. */
export const storeDocumentKey = 'imgstore.json';
export const firstRootId = 'r0001' as RootId;

/** Marker objects, one a fact about a root; see roots.ts for what follows from them. */
export const statesPrefix = 'states';
export const namesPrefix = 'names';
/** Says which pushes write to which root. */
export const pushesPrefix = 'pushes';
/** Put for its time: the store's clock, which markers and leases are compared with. */
export const clockKey = 'clock';

export type RootId = string & { readonly brand: 'RootId' };
export type RootFact = 'opened' | 'expired' | 'alarm' | 'deleted';

const documentHint =
  'Run it again; if it stays, put the document back: it is the same in every store of its format.';
const rootNumberMax = 999_999_999;

const leaseKeyPattern = /^pushes\/(r[0-9]{4,9})\/([0-9a-f-]{36})(?:\.renewed)?$/;
const stateKeyPattern = /^(r[0-9]{4,9})\.(opened|expired|alarm|deleted)$/;

/** In the whole store, not in a scope. */
export function stateKey(root: RootId, fact: RootFact): string {
  return `${statesPrefix}/${root}.${fact}`;
}

/** The reverse, of a key below `states/`; undefined for a foreign object. */
export function parseStateKey(key: string): { root: RootId; fact: RootFact } | undefined {
  const [, root, fact] = stateKeyPattern.exec(key) ?? [];
  if (root === undefined || !isRootId(root)) return undefined;
  return { root, fact: fact as RootFact };
}

/** Put once, so that its time is the one when the push began. */
export function leaseKey(root: RootId, lease: string): string {
  return `${pushesPrefix}/${root}/${lease}`;
}

/** Put again and again. */
export function leaseRenewalKey(root: RootId, lease: string): string {
  return `${leaseKey(root, lease)}.renewed`;
}

/** The reverse of both; undefined for a foreign object. */
export function parseLeaseKey(key: string): { root: RootId; lease: string } | undefined {
  const [, root, lease] = leaseKeyPattern.exec(key) ?? [];
  if (root === undefined || lease === undefined) return undefined;
  return isRootId(root) ? { root, lease } : undefined;
}

function isRootId(text: string): text is RootId {
  return rootIdOf(Number(text.slice(1))) === text;
}

export function rootNumber(id: RootId): number {
  return Number(id.slice(1));
}

/** `number` is 1 to 999,999,999. */
export function rootIdOf(number: number): RootId {
  return `r${String(number).padStart(4, '0')}` as RootId;
}

/** Of the root that the next collection opens. Errors: LIMIT, after a thousand million of them. */
export function nextRootId(newest: RootId): RootId {
  const number = rootNumber(newest) + 1;
  if (number <= rootNumberMax) return rootIdOf(number);
  throw new ImgstoreError('LIMIT', `Cannot open a root after ${newest}: it is the last`);
}

export function rootPrefix(id: RootId): string {
  return `roots/${id}`;
}

/** Of sealed chunks, by `chunkObjectKey`. */
export function chunksPrefix(id: RootId): string {
  return `${rootPrefix(id)}/chunks`;
}

/** Of sealed recipes, by `recipeObjectKey`. */
export function recipesPrefix(id: RootId): string {
  return `${rootPrefix(id)}/recipes`;
}

/**
 * `ab/abcdef…`: 256 folders, so that none holds so many files that listing, copying or backing it
 * up becomes slow, and a collector can walk them in parts. On S3 the digits spread the load.
 */
export function chunkObjectKey(id: ChunkId): string {
  return `${id.slice(0, 2)}/${id}`;
}

/** The id in a key of `Root.chunks`, or undefined for a foreign object. */
export function chunkIdOfObjectKey(key: string): ChunkId | undefined {
  const id = key.slice(3) as ChunkId;
  return isHexDigest(id) && key === chunkObjectKey(id) ? id : undefined;
}

/** No fan-out: there is one recipe an image, and they are listed whole. */
export function recipeObjectKey(id: RecipeId): string {
  return id;
}

export function formatStoreDocument(): Buffer {
  return Buffer.from(`${JSON.stringify({ format: storeFormat })}\n`);
}

/** CORRUPT if it is no such document, UNSUPPORTED if it is one of another format. */
export function checkStoreDocument(bytes: Uint8Array, location: string): void {
  const what = `Cannot open the store ${location}`;
  const { format } = parseObject(bytes, `${what}: ${storeDocumentKey}`);
  if (typeof format !== 'number' || !Number.isSafeInteger(format) || format < 1) {
    throw new ImgstoreError('CORRUPT', `${what}: ${storeDocumentKey} names no format`, {
      hint: documentHint,
    });
  }
  if (format === storeFormat) return;
  throw new ImgstoreError(
    'UNSUPPORTED',
    `${what}: it has format ${format}, this imgstore reads and writes format ${storeFormat}`,
    { hint: `Use an imgstore for format ${format}, or push to another store.` },
  );
}

type JsonObject = Readonly<Record<string, unknown>>;

function parseObject(bytes: Uint8Array, what: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    const options = { hint: documentHint, cause: error };
    throw new ImgstoreError('CORRUPT', `${what} is not JSON`, options);
  }
  if (isObject(value)) return value;
  throw new ImgstoreError('CORRUPT', `${what} is not a JSON object`, { hint: documentHint });
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
