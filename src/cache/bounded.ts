/**
 * A bound on the gets that run at once, so that cold caches do not become an outage of the tier
 * behind. The admission is passed in: several sources may share one.
 */

import type { Admission } from './admission.ts';
import type { ChunkSource } from './chunk-source.ts';

export function bounded(source: ChunkSource, admission: Admission): ChunkSource {
  return {
    tier: source.tier,
    async get(id, options) {
      using _place = await admission.acquire(options);
      return await source.get(id, options);
    },
    put: (id, sealed) => source.put(id, sealed),
    drop: id => source.drop(id),
    close: () => source.close(),
  };
}
