/** SHA-256 digests: branded hexadecimal ids, and OCI's `sha256:…` form. */

import { createHash, hash } from 'node:crypto';
import { ImgstoreError } from './errors.ts';

declare const brand: unique symbol;
/** 64 lower-case hexadecimal digits: the SHA-256 of a sealed chunk, all of it. */
export type ChunkId = string & { readonly [brand]: 'chunk' };
/** 64 lower-case hexadecimal digits: see docs/format/recipe.md. */
export type RecipeId = string & { readonly [brand]: 'recipe' };
/** `sha256:` and 64 lower-case hexadecimal digits, as OCI writes them. */
export type OciDigest = string & { readonly [brand]: 'oci' };

const hexPattern = /^[0-9a-f]{64}$/;

export function isHexDigest(text: string): boolean {
  return hexPattern.test(text);
}

export function parseChunkId(text: string): ChunkId {
  if (!hexPattern.test(text))
    throw new ImgstoreError('CORRUPT', `Cannot read a chunk id: it is not 64 hexadecimal digits`);
  return text as ChunkId;
}

export function parseRecipeId(text: string): RecipeId {
  if (!hexPattern.test(text))
    throw new ImgstoreError('CORRUPT', `Cannot read a recipe id: it is not 64 hexadecimal digits`);
  return text as RecipeId;
}

export function parseOciDigest(text: string): OciDigest {
  if (/^sha256:[0-9a-f]{64}$/.test(text)) return text as OciDigest;
  if (/^[a-z0-9+._-]+:[0-9a-zA-Z=_-]+$/.test(text)) {
    throw new ImgstoreError(
      'UNSUPPORTED',
      `Cannot use digest ${text.slice(0, 140)}: only sha256 is supported`,
    );
  }
  throw new ImgstoreError('CORRUPT', 'Cannot read a digest: it is not of the form sha256:HEX');
}

export function sha256(bytes: Uint8Array): Buffer {
  return hash('sha256', bytes, 'buffer');
}

export function sha256Hex(bytes: Uint8Array): string {
  return hash('sha256', bytes, 'hex');
}

export function ociDigest(bytes: Uint8Array): OciDigest {
  return `sha256:${sha256Hex(bytes)}` as OciDigest;
}

/** A running SHA-256. */
export class Sha256 {
  readonly #hash = createHash('sha256');
  update(bytes: Uint8Array): void {
    this.#hash.update(bytes);
  }
  /** Ends it: 64 hexadecimal digits. */
  hex(): string {
    return this.#hash.digest('hex');
  }
}
