/**
 * The read side of each store that the daemon serves from: its catalog, and its chunks through the
 * worker's tiers. The disk cache and the decoded chunks are one for all.
 */

import { ImgstoreError } from '../base/errors.ts';
import { Limiter } from '../base/limiter.ts';
import type { Log } from '../base/log.ts';
import { bounded } from '../cache/bounded.ts';
import type { ChunkSource } from '../cache/chunk-source.ts';
import { storeSource } from '../cache/store-source.ts';
import { tiered } from '../cache/tiered.ts';
import { verified } from '../cache/verified.ts';
import { Catalog } from '../catalog/catalog.ts';
import { ChunkReader } from '../image/chunk-reader.ts';
import type { DecodedCache } from '../image/decoded-cache.ts';
import type { OwnerKey } from '../keys/keys.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { openStore } from '../store/open-store.ts';
import { openRoot, type Root } from '../store/root.ts';

/** Requests to one store at once: enough to hide its latency, few enough not to be a burden. */
const storeRequestsMax = 32;
/** Chunks of one store being fetched or decoded at once: bounds memory whatever is read. */
const chunksInFlightMax = 64;

export interface ServedStore {
  catalog: Catalog;
  reader: ChunkReader;
}

interface Served extends ServedStore {
  root: Root;
  key: OwnerKey;
}

export interface StoresOptions {
  diskCache: ChunkSource;
  decoded: DecodedCache;
  ownerKey: () => Promise<OwnerKey>;
  log: Log;
}

export class Stores {
  readonly #options: StoresOptions;
  /** A client of S3 has connections and credentials of its own: one for all mounts of a store. */
  readonly #stores = new Map<string, ObjectStore>();
  readonly #served = new Map<string, Served>();

  constructor(options: StoresOptions) {
    this.#options = options;
  }

  /**
   * The store at a location. Its root and our key are looked up each time, since either may have
   * changed; what serves them is kept while they are the same. `keyId`: the key that the user means,
   * if it is not the one of the keys folder. Errors: KEY, and those of openRoot.
   */
  async get(
    location: string,
    { keyId }: { keyId?: string | undefined } = {},
  ): Promise<ServedStore> {
    const key = await this.#options.ownerKey();
    if (keyId !== undefined && keyId !== key.id) {
      throw new ImgstoreError('KEY', `Cannot use owner key ${keyId}: the daemon has ${key.id}`, {
        hint: 'Unmount everything and stop it (imgstore daemon stop), then run it again.',
      });
    }
    const root = await openRoot(await this.#store(location), { create: false });
    const served = this.#served.get(location);
    if (served?.root.id === root.id && served.key.id === key.id) return served;
    const fresh = this.#serve(root, key);
    this.#served.set(location, fresh);
    return fresh;
  }

  async #store(location: string): Promise<ObjectStore> {
    const store = this.#stores.get(location) ?? (await openStore(location));
    this.#stores.set(location, store);
    return store;
  }

  #serve(root: Root, key: OwnerKey): Served {
    const { diskCache, decoded, log } = this.#options;
    const store = bounded(verified(storeSource(root)), new Limiter(storeRequestsMax));
    const tiers = tiered([diskCache, store], { log });
    const reader = new ChunkReader(tiers, decoded, { chunksInFlightMax });
    return { root, key, catalog: new Catalog(root, key), reader };
  }
}
