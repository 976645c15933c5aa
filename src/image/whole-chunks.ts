/**
 * Chunks that were found whole in one run, so that those which images share are checked once. What
 * one image says of a chunk says nothing about another's key or sizes for it, so these count too.
 */

import { createHash } from 'node:crypto';
import { DigestSet } from '../base/digest-set.ts';
import type { ChunkSegment } from '../recipe/recipe.ts';

/** Of 64 MiB; those beyond are checked again where they are shared. */
const chunksMax = 3_000_000;

export class WholeChunks {
  readonly #chunks = new DigestSet();

  has(chunk: ChunkSegment): boolean {
    return this.#chunks.has(identityOf(chunk));
  }

  add(chunk: ChunkSegment): void {
    if (this.#chunks.size < chunksMax) this.#chunks.add(identityOf(chunk));
  }
}

function identityOf({ id, key, plainSizeBytes, sealedSizeBytes }: ChunkSegment): string {
  const sizes = `${id} ${plainSizeBytes} ${sealedSizeBytes}\n`;
  return createHash('sha256').update(sizes).update(key).digest('hex');
}
