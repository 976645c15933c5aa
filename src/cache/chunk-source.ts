/**
 * A place that may hold sealed chunks: a tier, or tiers with behaviour wrapped around them. A
 * source handles sealed bytes only; it never sees a key.
 *
 * Contract (test/contract/chunk-source.ts runs it against every implementation):
 * - get: the sealed chunk, or undefined if this source does not have it. The buffer is shared:
 *   nobody writes to it. Absence is never a fault; a fault is an ImgstoreError. An answer has the
 *   size that was asked for: a cache treats other sizes as absence, the store as CORRUPT. An aborted
 *   signal rejects with its reason. A prefetch may be shed (PrefetchShed) as long as it is unwanted.
 * - put: offers a chunk to a cache; it may decline, and never rejects for a fault of its own.
 *   Resolves when the bytes may be let go. The lowest tier (the store) ignores it: chunks get there
 *   by push alone. Whoever offers has compared the bytes with the id.
 * - drop: forgets a chunk whose bytes turned out wrong, so that the next get asks further down: the
 *   copy of the tier that gave it, or all.
 * - close: waits for writes under way; afterwards nothing is called.
 */
import type { ChunkId } from '../base/digest.ts';
import type { Prefetch } from './prefetch.ts';

export interface ChunkSource {
  /** The tier's name in metrics and messages: `l1`, `store`. */
  readonly tier: string;
  get(id: ChunkId, options: GetOptions): Promise<SealedHit | undefined>;
  put(id: ChunkId, sealed: Buffer): Promise<void>;
  drop(id: ChunkId, tier?: string): Promise<void>;
  close(): Promise<void>;
}

export interface GetOptions {
  /** The sealed size that the recipe states: 1 to sealedChunkSizeMaxBytes. */
  sizeBytes: number;
  signal?: AbortSignal | undefined;
  /** Nobody waits for it until this is wanted; undefined if somebody does. */
  prefetch?: Prefetch | undefined;
  /**
   * Waited for before the lowest tier is asked, each time: a bound on what goes on in caches must not
   * wait with it. It rejects with PrefetchShed, or with the signal's reason.
   */
  onLowest?: (() => Promise<void>) | undefined;
}

export interface SealedHit {
  sealed: Buffer;
  /** The tier that had it. */
  tier: string;
  /**
   * True if the SHA-256 of this very copy is the id. False for what a cache on this worker kept: it
   * was compared on its way in, but a crash may have torn it since. If it does not open, drop it and
   * get it again; if one that is verified does not open, the recipe or the chunk itself is wrong.
   */
  verified: boolean;
}
