/**
 * Keys of objects: `/`-separated parts of [A-Za-z0-9._%~@+=-], none of them empty, `.` or `..`, at
 * most 255 bytes a part and 512 in all. That is what file systems and S3 take without escaping, so
 * a key is the path below the store's folder, and a checked key cannot lead out of it.
 */

import { ImgstoreError } from '../base/errors.ts';
import { objectKeyLengthMaxBytes, objectKeyPartLengthMaxBytes } from '../base/limits.ts';

const keyPattern = /^[A-Za-z0-9._%~@+=-]+(?:\/[A-Za-z0-9._%~@+=-]+)*$/;

export function isObjectKey(text: string): boolean {
  if (text.length > objectKeyLengthMaxBytes || !keyPattern.test(text)) return false;
  return text
    .split('/')
    .every(part => part !== '.' && part !== '..' && part.length <= objectKeyPartLengthMaxBytes);
}

/** Throws USAGE for what is no key. */
export function checkObjectKey(text: string): void {
  if (isObjectKey(text)) return;
  const shown = JSON.stringify(text.slice(0, 80));
  throw new ImgstoreError(
    'USAGE',
    `Cannot use ${shown} as a key of a store: it is not a valid key`,
  );
}

/** What `list` takes: a key, or '' for everything. */
export function checkKeyPrefix(text: string): void {
  if (text !== '') checkObjectKey(text);
}
