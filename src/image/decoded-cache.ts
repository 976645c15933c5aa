/**
 * Decoded chunks in memory, shared by every disk of the worker and bounded in bytes.
 *
 * An entry is found by chunk id but handed out only to who presents the chunk's key: ids are
 * readable in recipes without a key, so an id alone must not open another tenant's plain bytes. And
 * only to who states its size: a recipe with a wrong one is not served more or less than it says.
 */

import { timingSafeEqual } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { ChunkId } from '../base/digest.ts';
import type { ChunkSegment } from '../recipe/recipe.ts';

interface Entry {
  key: Buffer;
  plain: Buffer;
}

export class DecodedCache {
  readonly sizeMaxBytes: number;
  /** Undefined: nothing is kept. */
  readonly #entries: LRUCache<ChunkId, Entry> | undefined;

  /** 0 keeps nothing; a chunk that alone is larger is not kept. */
  constructor(sizeMaxBytes: number) {
    this.sizeMaxBytes = sizeMaxBytes;
    if (sizeMaxBytes === 0) return;
    this.#entries = new LRUCache({
      maxSize: sizeMaxBytes,
      sizeCalculation: entry => entry.plain.length,
    });
  }

  get({ id, key, plainSizeBytes }: ChunkSegment): Buffer | undefined {
    const entry = this.#entries?.get(id);
    if (entry === undefined || entry.plain.length !== plainSizeBytes) return undefined;
    return timingSafeEqual(entry.key, key) ? entry.plain : undefined;
  }

  /** `plain` is what opens with the segment's key, and nobody writes to it any more. */
  set({ id, key }: ChunkSegment, plain: Buffer): void {
    this.#entries?.set(id, { key, plain });
  }

  get sizeBytes(): number {
    return this.#entries?.calculatedSize ?? 0;
  }
}
