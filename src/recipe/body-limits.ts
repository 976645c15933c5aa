/** What both sides of the format check: the limits of a recipe's sizes. */

import { ImgstoreError } from '../base/errors.ts';
import { chunkSizeMaxBytes, sealedChunkSizeMaxBytes } from '../base/limits.ts';
import { contentKeySizeBytes } from './format.ts';
import type { ChunkSegment } from './recipe.ts';

export function isSoundChunk({ key, plainSizeBytes, sealedSizeBytes }: ChunkSegment): boolean {
  return (
    key.length === contentKeySizeBytes &&
    isSize(plainSizeBytes, chunkSizeMaxBytes) &&
    isSize(sealedSizeBytes, sealedChunkSizeMaxBytes)
  );
}

function isSize(value: number, maxBytes: number): boolean {
  return Number.isInteger(value) && value >= 1 && value <= maxBytes;
}

export function checkLimit(what: string, sizeBytes: number, maxBytes: number): void {
  if (sizeBytes <= maxBytes) return;
  throw new ImgstoreError(
    'LIMIT',
    `Cannot use a recipe: its ${what} of ${sizeBytes} bytes passes the limit of ${maxBytes}`,
  );
}
