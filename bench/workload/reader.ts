/**
 * The lower tiers of a worker, as its daemon has them, without the worker's own memory and disk, which
 * would have everything after a while: the shared cache, then the store. And chunks to read.
 */

import { randomBytes } from 'node:crypto';
import type { ChunkSource } from '../../src/cache/chunk-source.ts';
import { parseFleet } from '../../src/cache/fleet/fleet-config.ts';
import { FleetSource } from '../../src/cache/fleet/fleet-source.ts';
import { storeSource } from '../../src/cache/store-source.ts';
import { tiered } from '../../src/cache/tiered.ts';
import { verified } from '../../src/cache/verified.ts';
import { openStore } from '../../src/store/open-store.ts';
import { Roots } from '../../src/store/roots.ts';
import { type SealedChunk, sealedChunk } from '../../test/support/sealed-chunks.ts';
import { until } from '../../test/support/until.ts';
import { type Address, fleetText } from './machines.ts';

const healTriesMax = 100;

export class Reader implements AsyncDisposable {
  readonly l2: FleetSource;
  readonly l3: ChunkSource;
  readonly tiers: ChunkSource;

  private constructor(l2: FleetSource, l3: ChunkSource) {
    this.l2 = l2;
    this.l3 = l3;
    this.tiers = tiered([l2, l3], { log: () => {} });
  }

  static async open(nodes: readonly Address[], store: string): Promise<Reader> {
    const l2 = new FleetSource({ ...parseFleet(fleetText(nodes), 'the bench'), log: () => {} });
    return new Reader(l2, verified(storeSource(new Roots(await openStore(store)))));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.tiers.close();
  }

  /** Until every node has its shard of every chunk and is asked for it. */
  async warm(chunks: readonly SealedChunk[]): Promise<void> {
    for (let tries = 0; tries < healTriesMax; tries++) {
      const { degraded, misses } = this.l2.stats();
      for (const { id, sealed } of chunks) {
        const hit = await this.l2.get(id, { sizeBytes: sealed.length });
        if (hit === undefined) await this.l2.put(id, sealed);
        await until(() => this.l2.isIdle, 'the shared cache has nothing to do');
      }
      const after = this.l2.stats();
      if (after.degraded === degraded && after.misses === misses) return;
    }
    throw new Error('the shared cache does not become whole');
  }
}

export function makeChunks(count: number, sizeBytes: number): SealedChunk[] {
  return Array.from({ length: count }, () => sealedChunk(randomBytes(sizeBytes)));
}
