/**
 * The read side of each store that the daemon serves from: its catalog, and its chunks through the
 * worker's tiers. The disk cache and the decoded chunks are one for all; a store is opened once.
 */

import { Limiter } from '../base/limiter.ts';
import type { Log } from '../base/log.ts';
import { SingleFlight } from '../base/single-flight.ts';
import { bounded } from '../cache/bounded.ts';
import type { ChunkSource } from '../cache/chunk-source.ts';
import { storeSource } from '../cache/store-source.ts';
import { tiered } from '../cache/tiered.ts';
import { verified } from '../cache/verified.ts';
import { Catalog } from '../catalog/catalog.ts';
import { ChunkReader } from '../image/chunk-reader.ts';
import type { DecodedCache } from '../image/decoded-cache.ts';
import type { OwnerKey } from '../keys/keys.ts';
import { openStore } from '../store/open-store.ts';
import { openRoot } from '../store/root.ts';

/** Requests to one store at once: enough to hide its latency, few enough not to be a burden. */
const storeRequestsMax = 32;
/** Chunks of one store being fetched or decoded at once: bounds memory whatever is read. */
const chunksInFlightMax = 64;

export interface ServedStore {
  catalog: Catalog;
  reader: ChunkReader;
}

export interface StoresOptions {
  diskCache: ChunkSource;
  decoded: DecodedCache;
  ownerKey: () => Promise<OwnerKey>;
  log: Log;
}

export class Stores {
  readonly #options: StoresOptions;
  readonly #open = new Map<string, ServedStore>();
  readonly #opening = new SingleFlight<string, ServedStore>();

  constructor(options: StoresOptions) {
    this.#options = options;
  }

  /** The store at a location, opened if it is not yet. A failure is not remembered. */
  async get(location: string): Promise<ServedStore> {
    const there = this.#open.get(location);
    if (there !== undefined) return there;
    return this.#opening.run(location, async () => {
      const { diskCache, decoded, ownerKey, log } = this.#options;
      const root = await openRoot(await openStore(location), { create: false });
      const store = bounded(verified(storeSource(root)), new Limiter(storeRequestsMax));
      const tiers = tiered([diskCache, store], { log });
      const served = {
        catalog: new Catalog(root, await ownerKey()),
        reader: new ChunkReader(tiers, decoded, { chunksInFlightMax }),
      };
      this.#open.set(location, served);
      return served;
    });
  }
}
