/**
 * A place that may hold sealed chunks: a tier, or tiers with behaviour wrapped around them. A
 * source handles sealed bytes only; it never sees a key.
 *
 * Contract (test/contract/chunk-source.ts runs it against every implementation):
 * - get: the sealed chunk, or undefined if this source does not have it. The buffer is shared:
 *   nobody writes to it. Absence is never a fault; a fault is an ImgstoreError.
 * - put: offers a chunk to a cache; it may decline. Resolves when the bytes may be let go. The
 *   lowest tier (the store) ignores it: chunks get there by push alone.
 * - drop: forgets a chunk whose bytes turned out wrong, so that the next get asks further down.
 * - close: waits for writes under way; afterwards nothing is called.
 */
import type { ChunkId } from '../base/digest.ts';

export interface ChunkSource {
  /** The tier's name in metrics and messages: `l1`, `store`. */
  readonly tier: string;
  get(id: ChunkId, options: GetOptions): Promise<SealedHit | undefined>;
  put(id: ChunkId, sealed: Buffer): Promise<void>;
  drop(id: ChunkId): Promise<void>;
  close(): Promise<void>;
}

export interface GetOptions {
  /** The sealed size that the recipe states; anything else is a wrong answer. */
  sizeBytes: number;
  signal?: AbortSignal;
}

export interface SealedHit {
  sealed: Buffer;
  /** The tier that had it. */
  tier: string;
  /** True if its SHA-256 has been compared with the id since it entered the worker. */
  verified: boolean;
}
