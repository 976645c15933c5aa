/** Counts what a tier is asked and answers, and how long that takes. */

import type { ChunkSource } from './chunk-source.ts';

export interface GetObservation {
  /** `aborted`: the asker gave up, which says nothing about the tier. */
  outcome: 'hit' | 'miss' | 'fault' | 'aborted';
  /** Of the answer; 0 unless it is a hit. */
  sizeBytes: number;
  durationMs: number;
}

/** `observe` is called once a get, before the answer. `nowMs` is a monotonic clock. */
export function metered(
  source: ChunkSource,
  observe: (observation: GetObservation) => void,
  nowMs: () => number = () => performance.now(),
): ChunkSource {
  return {
    tier: source.tier,
    async get(id, options) {
      const startedMs = nowMs();
      try {
        const hit = await source.get(id, options);
        const outcome = hit === undefined ? 'miss' : 'hit';
        observe({ outcome, sizeBytes: hit?.sealed.length ?? 0, durationMs: nowMs() - startedMs });
        return hit;
      } catch (error) {
        const outcome = options.signal?.aborted === true ? 'aborted' : 'fault';
        observe({ outcome, sizeBytes: 0, durationMs: nowMs() - startedMs });
        throw error;
      }
    },
    put: (id, sealed) => source.put(id, sealed),
    drop: id => source.drop(id),
    close: () => source.close(),
  };
}

/** Totals of one tier since the process started. */
export class CacheCounters {
  hits = 0;
  misses = 0;
  faults = 0;
  hitBytes = 0;

  /** Bound: pass it to `metered` as it is. */
  readonly observe = ({ outcome, sizeBytes }: GetObservation): void => {
    if (outcome === 'hit') this.hits++;
    else if (outcome === 'miss') this.misses++;
    else if (outcome === 'fault') this.faults++;
    this.hitBytes += sizeBytes;
  };
}
