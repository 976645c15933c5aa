/**
 * The record behind a name: which recipe it means. Vouched for under the owner's key together with
 * the name and tag, so that a store cannot have one name mean another's recipe. docs/format/name.md.
 *
 * An older record of the same name is as genuine as the newest: a store can roll a name back.
 */

import { createHmac, timingSafeEqual } from 'node:crypto';
import { assert } from '../base/assert.ts';
import { isHexDigest, parseRecipeId, type RecipeId } from '../base/digest.ts';
import { ImgstoreError } from '../base/errors.ts';
import { nameRecordSizeMaxBytes } from '../base/limits.ts';
import { keyIdPattern, type OwnerKey } from '../keys/keys.ts';
import { formatImageName, type ImageName } from './name.ts';

/** What a record says; whether it is true is for verifyNameRecord. */
export interface NameRecord {
  recipeId: RecipeId;
  /** As Date.toISOString writes it. */
  pushed: string;
  /** Id of the owner key that vouches for it. */
  keyId: string;
  /** 64 hexadecimal digits. */
  mac: string;
}

const nameRecordVersion = 1;
const macLabel = 'imgstore name record 1';
const timePattern = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

export function encodeNameRecord(
  name: ImageName,
  { recipeId, pushed }: { recipeId: RecipeId; pushed: string },
  ownerKey: OwnerKey,
): Buffer {
  assert(isTime(pushed), 'the time of a push is one');
  const keyId = ownerKey.id;
  const mac = macOf(name, { recipeId, pushed, keyId }, ownerKey).toString('hex');
  const fields = { version: nameRecordVersion, recipe: recipeId, pushed, keyId, mac };
  return Buffer.from(`${JSON.stringify(fields)}\n`, 'utf8');
}

/** `name` is for messages. Errors: CORRUPT, UNSUPPORTED for a newer format, LIMIT. */
export function parseNameRecord(bytes: Buffer, name: ImageName): NameRecord {
  const what = `Cannot read the record of ${formatImageName(name)}`;
  if (bytes.length > nameRecordSizeMaxBytes) {
    const state = `its ${bytes.length} bytes pass the limit of ${nameRecordSizeMaxBytes}`;
    throw new ImgstoreError('LIMIT', `${what}: ${state}`);
  }
  const { version, recipe, pushed, keyId, mac } = fieldsOf(bytes, what);
  if (version !== nameRecordVersion && typeof version === 'number') {
    throw new ImgstoreError(
      'UNSUPPORTED',
      `${what}: it is of format version ${version}, and this imgstore reads ${nameRecordVersion}`,
      { hint: 'Use the imgstore that pushed it, or a newer one.' },
    );
  }
  if (
    version !== nameRecordVersion ||
    !matches(recipe, isHexDigest) ||
    !matches(pushed, isTime) ||
    !matches(keyId, text => keyIdPattern.test(text)) ||
    !matches(mac, isHexDigest)
  ) {
    throw damaged(what);
  }
  return { recipeId: parseRecipeId(recipe), pushed, keyId, mac };
}

/**
 * Errors: KEY if another key vouches for the record, CORRUPT if it was not made for this name.
 */
export function verifyNameRecord(record: NameRecord, name: ImageName, ownerKey: OwnerKey): void {
  const what = `Cannot trust the record of ${formatImageName(name)}`;
  if (record.keyId !== ownerKey.id) {
    throw new ImgstoreError(
      'KEY',
      `${what}: it is of key ${record.keyId}, and the key here is ${ownerKey.id}`,
      { hint: 'Use the owner.key of who pushed it, or set IMGSTORE_KEY.' },
    );
  }
  if (!timingSafeEqual(Buffer.from(record.mac, 'hex'), macOf(name, record, ownerKey))) {
    throw new ImgstoreError('CORRUPT', `${what}: it was changed, or made for another name`, {
      hint: 'Somebody wrote to the store who should not have. Push the image again.',
    });
  }
}

/** No field holds a line end, so equal input means equal fields. */
function macOf(
  { name, tag }: ImageName,
  { recipeId, pushed, keyId }: Omit<NameRecord, 'mac'>,
  ownerKey: OwnerKey,
): Buffer {
  const lines = [macLabel, name, tag, recipeId, pushed, keyId];
  return createHmac('sha256', ownerKey.subkey(macLabel)).update(lines.join('\n')).digest();
}

function fieldsOf(bytes: Buffer, what: string): { readonly [field: string]: unknown } {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch {
    throw damaged(what);
  }
  if (typeof value !== 'object' || value === null) throw damaged(what);
  return { ...value };
}

function matches(value: unknown, fits: (text: string) => boolean): value is string {
  return typeof value === 'string' && fits(value);
}

/** Only the one text of a time: the mac is over the time, and must cover every byte of a record. */
function isTime(text: string): boolean {
  if (!timePattern.test(text)) return false;
  const time = new Date(text);
  return !Number.isNaN(time.getTime()) && time.toISOString() === text;
}

function damaged(what: string): ImgstoreError {
  return new ImgstoreError('CORRUPT', `${what}: it is damaged`, { hint: 'Push the image again.' });
}
