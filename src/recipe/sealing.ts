/**
 * The cryptography of a recipe: its content key, the sealed private part, and the content key
 * wrapped for the owner. docs/format/recipe.md argues why each is sound.
 *
 * Nothing here is random: the same recipe under the same owner key is the same bytes.
 */

import { createCipheriv, createDecipheriv, createHash, createHmac } from 'node:crypto';
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js';
import type { OwnerKey } from '../keys/keys.ts';
import { recipeVersion, tagSizeBytes, wrapNonceSizeBytes } from './format.ts';

const contentLabel = 'imgstore recipe content key 1';
const wrapLabel = 'imgstore recipe wrap key 1';
const wrapNonceLabel = 'imgstore recipe wrap nonce 1';
const privateLabel = 'imgstore recipe private part';

const cipher = 'aes-256-gcm';
/** A content key seals one text in its life, the one it is derived from: no nonce is needed. */
const nonceSizeBytes = 12;

/** 32 bytes that depend on everything they will seal and authenticate. */
export function deriveContentKey(
  ownerKey: OwnerKey,
  { publicPart, privatePart }: { publicPart: Uint8Array; privatePart: Uint8Array },
): Buffer {
  const digest = createHash('sha256').update(publicPart).update(privatePart).digest();
  return createHmac('sha256', ownerKey.subkey(contentLabel)).update(digest).digest();
}

/** The sealed private part in pieces: what is encrypted, then the tag. */
export function sealPrivatePart(
  contentKey: Uint8Array,
  { publicPart, privatePart }: { publicPart: Uint8Array; privatePart: Uint8Array },
): [encrypted: Buffer, tag: Buffer] {
  const sealing = createCipheriv(cipher, contentKey, Buffer.alloc(nonceSizeBytes), {
    authTagLength: tagSizeBytes,
  });
  sealing.setAAD(associatedData(publicPart));
  const encrypted = sealing.update(privatePart);
  sealing.final();
  return [encrypted, sealing.getAuthTag()];
}

/** Undefined if the tag does not fit. */
export function openPrivatePart(
  contentKey: Uint8Array,
  { publicPart, sealed }: { publicPart: Uint8Array; sealed: Uint8Array },
): Buffer | undefined {
  const tagAt = sealed.length - tagSizeBytes;
  const opening = createDecipheriv(cipher, contentKey, Buffer.alloc(nonceSizeBytes), {
    authTagLength: tagSizeBytes,
  });
  opening.setAAD(associatedData(publicPart));
  opening.setAuthTag(sealed.subarray(tagAt));
  const privatePart = opening.update(sealed.subarray(0, tagAt));
  try {
    opening.final();
  } catch {
    return undefined;
  }
  return privatePart;
}

function associatedData(publicPart: Uint8Array): Buffer {
  const hash = createHash('sha256').update(publicPart).digest();
  return Buffer.concat([Buffer.from(`${privateLabel} ${recipeVersion}\n`, 'latin1'), hash]);
}

/** What a wrapped content key is bound to. */
export interface WrapContext {
  /** The header up to the nonce: magic, version, key id. */
  headerStart: Uint8Array;
  /** 32 bytes. */
  recipeId: Uint8Array;
}

export function wrapContentKey(
  ownerKey: OwnerKey,
  contentKey: Uint8Array,
  context: WrapContext,
): { nonce: Buffer; wrapped: Uint8Array } {
  const nonce = createHmac('sha256', ownerKey.subkey(wrapNonceLabel))
    .update(context.recipeId)
    .update(contentKey)
    .digest()
    .subarray(0, wrapNonceSizeBytes);
  return { nonce, wrapped: wrapping(ownerKey, nonce, context).encrypt(contentKey) };
}

/** Undefined if the tag does not fit. */
export function unwrapContentKey(
  ownerKey: OwnerKey,
  { nonce, wrapped }: { nonce: Uint8Array; wrapped: Uint8Array },
  context: WrapContext,
): Uint8Array | undefined {
  try {
    return wrapping(ownerKey, nonce, context).decrypt(wrapped);
  } catch {
    return undefined;
  }
}

function wrapping(ownerKey: OwnerKey, nonce: Uint8Array, { headerStart, recipeId }: WrapContext) {
  const bound = Buffer.concat([headerStart, recipeId]);
  return xchacha20poly1305(ownerKey.subkey(wrapLabel), nonce, bound);
}
