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
/** Says which roots there are. Replaced as a whole. */
export const rootsDocumentKey = 'roots.json';
export const firstRootId = 'r0001';

/**
 * active: pushes write and dedupe here; there is exactly one.
 * retired: read-only; what live names need was copied to the active root.
 * expired: about to be deleted; a read from it works and is an alarm.
 */
export type RootState = 'active' | 'retired' | 'expired';

export interface RootEntry {
  id: string;
  state: RootState;
}

const rootIdPattern = /^r[0-9]{4,9}$/;

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
    throw new ImgstoreError('CORRUPT', `${what}: ${storeDocumentKey} names no format`);
  }
  if (format === storeFormat) return;
  throw new ImgstoreError(
    'UNSUPPORTED',
    `${what}: it has format ${format}, this imgstore reads and writes format ${storeFormat}`,
    { hint: `Use an imgstore for format ${format}, or push to another store.` },
  );
}

export function formatRootsDocument(roots: readonly RootEntry[]): Buffer {
  const plain = roots.map(({ id, state }) => ({ id, state }));
  return Buffer.from(`${JSON.stringify({ roots: plain })}\n`);
}

/** CORRUPT unless ids are distinct and well-formed, states known, and one root is active. */
export function parseRootsDocument(bytes: Uint8Array, location: string): RootEntry[] {
  const what = `Cannot open the store ${location}: ${rootsDocumentKey}`;
  const { roots } = parseObject(bytes, what);
  if (!Array.isArray(roots)) throw new ImgstoreError('CORRUPT', `${what} lists no roots`);
  const entries = roots.map((root: unknown) => parseRootEntry(root, what));
  if (new Set(entries.map(entry => entry.id)).size !== entries.length) {
    throw new ImgstoreError('CORRUPT', `${what} lists a root twice`);
  }
  const active = entries.filter(entry => entry.state === 'active').length;
  if (active !== 1)
    throw new ImgstoreError('CORRUPT', `${what} has ${active} active roots, not one`);
  return entries;
}

function parseRootEntry(root: unknown, what: string): RootEntry {
  const { id, state }: JsonObject = isObject(root) ? root : {};
  if (typeof id !== 'string' || !rootIdPattern.test(id)) {
    throw new ImgstoreError('CORRUPT', `${what} lists a root without a proper id`);
  }
  if (state !== 'active' && state !== 'retired' && state !== 'expired') {
    throw new ImgstoreError('CORRUPT', `${what} gives root ${id} no known state`);
  }
  return { id, state };
}

type JsonObject = Readonly<Record<string, unknown>>;

function parseObject(bytes: Uint8Array, what: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw new ImgstoreError('CORRUPT', `${what} is not JSON`, { cause: error });
  }
  if (!isObject(value)) throw new ImgstoreError('CORRUPT', `${what} is not a JSON object`);
  return value;
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
