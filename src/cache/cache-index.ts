/**
 * What the worker's cache holds, and what goes when it is full: a segmented LRU over bytes.
 *
 * An entry is on probation until it is used a second time, then protected; victims are taken from
 * probation first, and the protected keep to four fifths. So a burst of images that start once
 * passes through the last fifth and leaves the base that every start reads. Each entry costs about
 * 230 bytes of memory; bytes are those of the disk, in whole blocks.
 */

import { LRUCache } from 'lru-cache';
import type { ChunkId } from '../base/digest.ts';
import { blockSizeBytes } from '../base/limits.ts';

export interface CacheEntry {
  readonly sizeBytes: number;
  /** When the file's time was last set. */
  touchedMs: number;
}

type Segment = LRUCache<ChunkId, CacheEntry>;

export class CacheIndex {
  readonly sizeMaxBytes: number;
  readonly #probation: Segment;
  readonly #protected: Segment;
  readonly #demoted: [ChunkId, CacheEntry][] = [];
  readonly #evicted: ChunkId[] = [];

  constructor(sizeMaxBytes: number) {
    this.sizeMaxBytes = sizeMaxBytes;
    this.#probation = new LRUCache<ChunkId, CacheEntry>({
      maxSize: sizeMaxBytes,
      sizeCalculation: diskBytes,
      dispose: (_, id, reason) => {
        if (reason === 'evict') this.#evicted.push(id);
      },
    });
    this.#protected = new LRUCache<ChunkId, CacheEntry>({
      maxSize: Math.ceil(sizeMaxBytes * 0.8),
      sizeCalculation: diskBytes,
      dispose: (entry, id, reason) => {
        if (reason === 'evict') this.#demoted.push([id, entry]);
      },
    });
  }

  get entries(): number {
    return this.#probation.size + this.#protected.size;
  }

  get bytes(): number {
    return this.#probation.calculatedSize + this.#protected.calculatedSize;
  }

  peek(id: ChunkId): CacheEntry | undefined {
    return this.#protected.peek(id) ?? this.#probation.peek(id);
  }

  /** The entry; this counts as a use of it. */
  use(id: ChunkId): CacheEntry | undefined {
    const entry = this.#protected.get(id) ?? this.#probation.get(id);
    if (entry !== undefined && diskBytes(entry) <= this.#protected.maxSize) {
      this.#probation.delete(id);
      this.#protected.set(id, entry);
      for (const [demotedId, demoted] of this.#demoted.splice(0)) {
        this.#probation.set(demotedId, demoted);
      }
    }
    return entry;
  }

  /** Adds or replaces an entry, the most recent of those on probation. Returns what has to go. */
  add(id: ChunkId, entry: CacheEntry): ChunkId[] {
    this.#protected.delete(id);
    this.#probation.set(id, entry);
    return this.#evictTo(this.sizeMaxBytes);
  }

  /** Takes out at least `sizeBytes`, or everything. */
  shrink(sizeBytes: number): ChunkId[] {
    return this.#evictTo(Math.max(0, this.bytes - sizeBytes));
  }

  delete(id: ChunkId): void {
    this.#probation.delete(id);
    this.#protected.delete(id);
  }

  #evictTo(targetBytes: number): ChunkId[] {
    while (this.bytes > targetBytes) {
      if (this.#probation.pop() !== undefined) continue;
      this.#protected.pop();
      this.#evicted.push(...this.#demoted.splice(0).map(([id]) => id));
    }
    return this.#evicted.splice(0);
  }
}

function diskBytes(entry: CacheEntry): number {
  return Math.ceil(entry.sizeBytes / blockSizeBytes) * blockSizeBytes;
}
