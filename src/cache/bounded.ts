/**
 * A bound on the gets that run at once, so that cold caches do not become an outage of the tier
 * behind. The limiter is passed in: several sources may share one. Who waits is bounded by who
 * asks: requests of the kernel and slots of the prefetcher.
 */

import type { Limiter } from '../base/limiter.ts';
import type { ChunkSource } from './chunk-source.ts';

export function bounded(source: ChunkSource, limiter: Limiter): ChunkSource {
  return {
    tier: source.tier,
    async get(id, options) {
      await limiter.acquireUnlessAborted(options.signal);
      try {
        return await source.get(id, options);
      } finally {
        limiter.release();
      }
    },
    put: (id, sealed) => source.put(id, sealed),
    drop: id => source.drop(id),
    close: () => source.close(),
  };
}
