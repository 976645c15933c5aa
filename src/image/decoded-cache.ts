/**
 * Decoded chunks in memory, shared by every disk of the worker and bounded in bytes.
 *
 * An entry is found by chunk id but handed out only to who presents the chunk's key: ids are
 * readable in recipes without a key, so an id alone must not open another tenant's plain bytes.
 */

import { timingSafeEqual } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { ChunkId } from '../base/digest.ts';

interface Entry {
  key: Buffer;
  plain: Buffer;
}

export class DecodedCache {
  readonly #entries: LRUCache<ChunkId, Entry>;

  constructor(sizeMaxBytes: number) {
    this.#entries = new LRUCache({
      maxSize: sizeMaxBytes,
      sizeCalculation: entry => entry.plain.length,
    });
  }

  get(id: ChunkId, key: Buffer): Buffer | undefined {
    const entry = this.#entries.get(id);
    return entry !== undefined && timingSafeEqual(entry.key, key) ? entry.plain : undefined;
  }

  set(id: ChunkId, key: Buffer, plain: Buffer): void {
    this.#entries.set(id, { key, plain });
  }

  get sizeBytes(): number {
    return this.#entries.calculatedSize;
  }
}
