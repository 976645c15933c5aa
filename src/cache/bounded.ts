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
      options.signal?.throwIfAborted();
      await place(limiter, options.signal);
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

/** A place in the limiter; one that comes after the signal was aborted is given back. */
async function place(limiter: Limiter, signal: AbortSignal | undefined): Promise<void> {
  const turn = limiter.acquire();
  if (turn === undefined || signal === undefined) return turn;
  await new Promise<void>((resolve, reject) => {
    const onAbort = () => {
      turn.then(() => limiter.release());
      reject(signal.reason);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    turn.then(() => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    });
  });
}
