/** A chunk source in memory, for tests of what wraps one. */

import type { ChunkId } from '../../src/base/digest.ts';
import type { ChunkSource, GetOptions, SealedHit } from '../../src/cache/chunk-source.ts';
import type { SealedChunk } from './sealed-chunks.ts';

export class MemorySource implements ChunkSource {
  readonly tier: string;
  readonly verified: boolean;
  /** Open to tests: to look at, and to damage. */
  readonly chunks = new Map<ChunkId, Buffer>();
  readonly calls: string[] = [];

  constructor(tier: string, options: { verified?: boolean; chunks?: SealedChunk[] } = {}) {
    this.tier = tier;
    this.verified = options.verified ?? true;
    for (const { id, sealed } of options.chunks ?? []) this.chunks.set(id, sealed);
  }

  async get(id: ChunkId, { sizeBytes, signal }: GetOptions): Promise<SealedHit | undefined> {
    this.calls.push(`get ${id}`);
    signal?.throwIfAborted();
    const sealed = this.chunks.get(id);
    if (sealed?.length !== sizeBytes) return undefined;
    return { sealed, tier: this.tier, verified: this.verified };
  }

  async put(id: ChunkId, sealed: Buffer): Promise<void> {
    this.calls.push(`put ${id}`);
    this.chunks.set(id, sealed);
  }

  async drop(id: ChunkId): Promise<void> {
    this.calls.push(`drop ${id}`);
    this.chunks.delete(id);
  }

  async close(): Promise<void> {
    this.calls.push('close');
  }
}
