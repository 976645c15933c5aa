/**
 * The read side of each store that the daemon serves from: its catalog, and its chunks through the
 * worker's tiers. The caches and the decoded chunks are one for all.
 */

import { MiB } from '../base/limits.ts';
import type { Log } from '../base/log.ts';
import { Admission } from '../cache/admission.ts';
import { type BoundedSource, bounded, type OutageStats } from '../cache/bounded.ts';
import type { ChunkSource } from '../cache/chunk-source.ts';
import { coalesced } from '../cache/coalesced.ts';
import { metered, type TierMeter } from '../cache/metered.ts';
import { storeSource } from '../cache/store-source.ts';
import { tiered } from '../cache/tiered.ts';
import { verified } from '../cache/verified.ts';
import { Catalog } from '../catalog/catalog.ts';
import { ChunkReader } from '../image/chunk-reader.ts';
import type { DecodedCache } from '../image/decoded-cache.ts';
import type { OwnerKeys } from '../keys/owner-keys.ts';
import { openStore } from '../store/open-store.ts';
import { Roots } from '../store/roots.ts';

/** Requests to one store at once: enough to hide its latency, few enough not to be a burden. */
const storeRequestsMax = 32;
/** Of them for what nobody waits for; and so many of it wait, all that the chunk reader lets pass. */
const storePrefetchesMax = 8;
const storePrefetchesWaitingMax = 64;
/** Chunks of one store being fetched or decoded at once: bounds memory whatever is read. */
const chunksInFlightMax = 64;

/**
 * Of a disk's metadata: that of 150,000 files or so. And so small a part of the decoded chunks in
 * memory that some mounts which begin do not push out what is read.
 */
const prefetchMaxBytes = 16 * MiB;
const prefetchMaxOfMemory = 1 / 8;

export interface ServedStore {
  catalog: Catalog;
  reader: ChunkReader;
  /** What a mount may prefetch of its disk. */
  prefetchMaxBytes: number;
}

interface Served extends ServedStore {
  roots: Roots;
}

export interface StoresOptions {
  /** The tiers in front of a store, the nearest first. */
  caches: readonly ChunkSource[];
  decoded: DecodedCache;
  ownerKeys: OwnerKeys;
  /** Of all stores together. */
  storeMeter: TierMeter;
  log: Log;
}

/** Requests for chunks to one store, now. */
export interface StoreStats {
  location: string;
  requests: number;
  /** For their turn, or for it to answer. */
  waiting: number;
  prefetchesWaiting: number;
  /** That have begun. */
  outages: number;
  /** Null while all is well. */
  outage: StoreOutage | null;
}

export interface StoreOutage {
  seconds: number;
  /** It answers again, and is asked by few at first. */
  isRecovering: boolean;
  /** For people. */
  reason: string;
}

export class Stores {
  readonly #options: StoresOptions;
  /** By location. A client of S3 has connections and credentials of its own: one for all mounts. */
  readonly #served = new Map<string, Promise<Served>>();
  readonly #origins = new Map<string, { origin: BoundedSource; admission: Admission }>();

  constructor(options: StoresOptions) {
    this.#options = options;
  }

  /**
   * The store at a location. Its roots are looked up anew when something is resolved. Errors: those
   * of openStore.
   */
  async get(location: string): Promise<ServedStore> {
    const serving = this.#served.get(location) ?? this.#serve(location);
    this.#served.set(location, serving);
    try {
      const served = await serving;
      // A mount waits for it only where it needs the roots: the record of its name comes meanwhile.
      served.roots.refresh().catch(() => {});
      return served;
    } catch (error) {
      this.#served.delete(location);
      throw error;
    }
  }

  stats(): StoreStats[] {
    return [...this.#origins].map(([location, { origin, admission }]) => {
      const { outages, outage } = origin;
      return {
        location,
        requests: admission.running,
        waiting: admission.demandWaiting + (outage?.waiting ?? 0),
        prefetchesWaiting: admission.prefetchesWaiting,
        outages,
        outage: outage === undefined ? null : describeOutage(outage),
      };
    });
  }

  /** Ends what is asked of stores that do not answer. The caches are not closed. */
  async close(): Promise<void> {
    await Promise.all([...this.#origins.values()].map(({ origin }) => origin.close()));
  }

  async #serve(location: string): Promise<Served> {
    const { caches, decoded, ownerKeys, storeMeter, log } = this.#options;
    const onTrouble = (message: string) => log('warn', message);
    const roots = new Roots(await openStore(location, { onTrouble }), {
      onAlarm: message => log('warn', message),
    });
    const admission = new Admission({
      atOnceMax: storeRequestsMax,
      prefetchAtOnceMax: storePrefetchesMax,
      prefetchWaitingMax: storePrefetchesWaitingMax,
    });
    const what = `the store ${roots.store.location}`;
    const origin = bounded(verified(storeSource(roots)), admission, { log, what });
    this.#origins.set(location, { origin, admission });
    const store = coalesced(metered(origin, storeMeter));
    const tiers = tiered([...caches, store], { log });
    const reader = new ChunkReader(tiers, decoded, { chunksInFlightMax });
    return {
      roots,
      catalog: new Catalog(roots, ownerKeys),
      reader,
      prefetchMaxBytes: Math.min(prefetchMaxBytes, decoded.sizeMaxBytes * prefetchMaxOfMemory),
    };
  }
}

function describeOutage({ beganMs, isRecovering, reason }: OutageStats): StoreOutage {
  const seconds = Math.round((performance.now() - beganMs) / 1000);
  return { seconds, isRecovering, reason };
}
