/**
 * JSON documents of an image, field by field. `where` names the document in messages
 * (`manifest sha256:… of oci:DIR`); whatever is not as it must be is CORRUPT.
 */

import { ImgstoreError } from '../../base/errors.ts';

export type JsonObject = Readonly<Record<string, unknown>>;

/** The exact text: not one byte is replaced or dropped. */
export function utf8Text(bytes: Uint8Array, where: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw malformed(where, 'it is not UTF-8 text', error);
  }
}

export function parseJson(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw malformed(where, 'it is not well-formed JSON', error);
  }
}

export function parseJsonObject(text: string, where: string): JsonObject {
  return asObject(parseJson(text, where), where, 'it');
}

export function asObject(value: unknown, where: string, name: string): JsonObject {
  if (isObject(value)) return value;
  throw malformed(where, `${name} is not a JSON object`);
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function asArray(value: unknown, where: string, name: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw malformed(where, `${name} is not a list`);
}

export function asString(value: unknown, where: string, name: string): string {
  if (typeof value === 'string') return value;
  throw malformed(where, `${name} is not a string`);
}

export function malformed(where: string, state: string, cause?: unknown): ImgstoreError {
  return new ImgstoreError('CORRUPT', `Cannot read ${where}: ${state}`, {
    hint: 'Build, save or copy the image again.',
    cause,
  });
}
