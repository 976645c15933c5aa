/**
 * A recipe as the object that a store keeps: header ‖ public part ‖ sealed private part.
 *
 * The id covers all but the header, so a new owner key rewrites the header in place, under the same
 * id. Whoever holds an id and no key can still check the object and read its chunk ids.
 */

import { assert } from '../base/assert.ts';
import { type ChunkId, isHexDigest, type RecipeId, sha256 } from '../base/digest.ts';
import { ImgstoreError } from '../base/errors.ts';
import { recipeSizeMaxBytes } from '../base/limits.ts';
import type { OwnerKey } from '../keys/keys.ts';
import { decodePrivatePart, decodePublicPart } from './decode-body.ts';
import { encodeBody } from './encode-body.ts';
import {
  headerKeyIdAt,
  headerMagicAt,
  headerNonceAt,
  headerSizeBytes,
  headerVersionAt,
  headerWrappedKeyAt,
  recipeMagic,
  recipeSizeMinBytes,
  recipeVersion,
} from './format.ts';
import type { Recipe } from './recipe.ts';
import {
  deriveContentKey,
  openPrivatePart,
  sealPrivatePart,
  unwrapContentKey,
  wrapContentKey,
} from './sealing.ts';

/**
 * The same recipe under the same key is the same bytes. Errors: LIMIT. A recipe whose segments do
 * not cover its disk, or that gives one chunk id two keys, is a bug and asserts.
 */
export function encodeRecipe(recipe: Recipe, ownerKey: OwnerKey): { id: RecipeId; bytes: Buffer } {
  const parts = encodeBody(recipe);
  const contentKey = deriveContentKey(ownerKey, parts);
  const sealed = sealPrivatePart(contentKey, parts);
  const bytes = Buffer.concat([Buffer.alloc(headerSizeBytes), parts.publicPart, ...sealed]);
  if (bytes.length > recipeSizeMaxBytes) {
    throw new ImgstoreError(
      'LIMIT',
      `Cannot write a recipe: its ${bytes.length} bytes pass the limit of ${recipeSizeMaxBytes}`,
    );
  }
  const id = sha256(bytes.subarray(headerSizeBytes));
  writeHeader(bytes, contentKey, { ownerKey, id });
  return { id: id.toString('hex') as RecipeId, bytes };
}

/**
 * Keys of the segments are views of one buffer. Errors: CORRUPT if the bytes are not those of
 * `expectedId`, KEY if they are sealed for another key, UNSUPPORTED for a newer format, LIMIT.
 */
export function decodeRecipe(bytes: Buffer, ownerKey: OwnerKey, expectedId: RecipeId): Recipe {
  const contentKey = openHeader(bytes, ownerKey, expectedId);
  const body = bytes.subarray(headerSizeBytes);
  const part = decodePublicPart(body);
  const publicPart = body.subarray(0, part.sizeBytes);
  const sealed = body.subarray(part.sizeBytes);
  const plain = openPrivatePart(contentKey, { publicPart, sealed });
  if (plain === undefined) throw corrupt(expectedId, 'its private part does not match its key');
  return decodePrivatePart(plain, part);
}

/**
 * The distinct chunks that a recipe needs, in the order of first use, without any key. Errors:
 * CORRUPT if the bytes are not those of `expectedId`, UNSUPPORTED, LIMIT.
 */
export function publicChunkIds(bytes: Buffer, expectedId: RecipeId): ChunkId[] {
  checkObject(bytes, expectedId);
  return decodePublicPart(bytes.subarray(headerSizeBytes)).ids;
}

/** Whether these are the bytes of a recipe, sealed for whomever. Errors: UNSUPPORTED. */
export function isIntactRecipe(bytes: Buffer, expectedId: RecipeId): boolean {
  try {
    checkObject(bytes, expectedId);
    return true;
  } catch (error) {
    if (!(error instanceof ImgstoreError) || error.code === 'UNSUPPORTED') throw error;
    return false;
  }
}

/** Id of the owner key that a recipe is sealed for. Errors: CORRUPT, UNSUPPORTED, LIMIT. */
export function recipeKeyId(bytes: Buffer): string {
  checkShape(bytes);
  return bytes.toString('hex', headerKeyIdAt, headerNonceAt);
}

/**
 * The same recipe, of the same id, for another owner key: a new buffer that differs in the header
 * alone. Errors: as decodeRecipe.
 */
export function rewrapRecipe(
  bytes: Buffer,
  { from, to, expectedId }: { from: OwnerKey; to: OwnerKey; expectedId: RecipeId },
): Buffer {
  const contentKey = openHeader(bytes, from, expectedId);
  const rewrapped = Buffer.from(bytes);
  writeHeader(rewrapped, contentKey, { ownerKey: to, id: Buffer.from(expectedId, 'hex') });
  return rewrapped;
}

function writeHeader(
  bytes: Buffer,
  contentKey: Uint8Array,
  { ownerKey, id }: { ownerKey: OwnerKey; id: Buffer },
): void {
  recipeMagic.copy(bytes, headerMagicAt);
  bytes.writeUInt16LE(recipeVersion, headerVersionAt);
  bytes.write(ownerKey.id, headerKeyIdAt, 'hex');
  const context = { headerStart: bytes.subarray(0, headerNonceAt), recipeId: id };
  const { nonce, wrapped } = wrapContentKey(ownerKey, contentKey, context);
  bytes.set(nonce, headerNonceAt);
  bytes.set(wrapped, headerWrappedKeyAt);
}

/** The content key, once the object is known to be the one of `expectedId`. */
function openHeader(bytes: Buffer, ownerKey: OwnerKey, expectedId: RecipeId): Uint8Array {
  checkObject(bytes, expectedId);
  const keyId = recipeKeyId(bytes);
  if (keyId !== ownerKey.id) {
    throw new ImgstoreError(
      'KEY',
      `Cannot open recipe ${expectedId}: it is sealed for key ${keyId}, not for ${ownerKey.id}`,
      { hint: 'Use the owner.key of who pushed it, or set IMGSTORE_KEY.' },
    );
  }
  const contentKey = unwrapContentKey(
    ownerKey,
    {
      nonce: bytes.subarray(headerNonceAt, headerWrappedKeyAt),
      wrapped: bytes.subarray(headerWrappedKeyAt, headerSizeBytes),
    },
    { headerStart: bytes.subarray(0, headerNonceAt), recipeId: Buffer.from(expectedId, 'hex') },
  );
  if (contentKey === undefined) throw corrupt(expectedId, 'its header is damaged');
  return contentKey;
}

function checkObject(bytes: Buffer, expectedId: RecipeId): void {
  assert(isHexDigest(expectedId), 'a recipe id is 64 hexadecimal digits');
  checkShape(bytes);
  const id = sha256(bytes.subarray(headerSizeBytes)).toString('hex');
  if (id !== expectedId) throw corrupt(expectedId, `its bytes have the id ${id}`);
}

function checkShape(bytes: Buffer): void {
  const what = 'Cannot read a recipe';
  if (bytes.length > recipeSizeMaxBytes) {
    const state = `its ${bytes.length} bytes pass the limit of ${recipeSizeMaxBytes}`;
    throw new ImgstoreError('LIMIT', `${what}: ${state}`);
  }
  const magic = bytes.subarray(headerMagicAt, headerVersionAt);
  if (bytes.length < recipeSizeMinBytes || !magic.equals(recipeMagic)) {
    throw new ImgstoreError('CORRUPT', `${what}: the object is not a recipe`, {
      hint: 'Push the image again.',
    });
  }
  const version = bytes.readUInt16LE(headerVersionAt);
  if (version !== recipeVersion) {
    throw new ImgstoreError(
      'UNSUPPORTED',
      `${what}: it is of format version ${version}, and this imgstore reads ${recipeVersion}`,
      { hint: 'Use the imgstore that pushed it, or a newer one.' },
    );
  }
}

function corrupt(id: RecipeId, state: string): ImgstoreError {
  return new ImgstoreError('CORRUPT', `Cannot open recipe ${id}: ${state}`, {
    hint: 'Push the image again.',
  });
}
