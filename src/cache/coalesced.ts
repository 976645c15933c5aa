/**
 * One fetch a chunk, however many wait for it. A waiter that gives up leaves the fetch to the
 * others; when the last one gives up, the fetch is aborted. A fetch is a prefetch until somebody who
 * waits joins it, or one who prefetched wants it.
 */

import type { ChunkId } from '../base/digest.ts';
import type { ChunkSource, SealedHit } from './chunk-source.ts';
import { fly, isUnwanted, Prefetch } from './prefetch.ts';

interface Flight {
  readonly result: Promise<SealedHit | undefined>;
  readonly abort: AbortController;
  readonly prefetch: Prefetch | undefined;
  waiting: number;
}

export function coalesced(source: ChunkSource): ChunkSource {
  const flights = new Map<string, Flight>();

  const depart = (id: ChunkId, sizeBytes: number, key: string, unwanted: boolean): Flight => {
    const abort = new AbortController();
    const { signal } = abort;
    const own = unwanted ? new Prefetch() : undefined;
    const land = () => {
      if (flights.get(key) === flight) flights.delete(key);
    };
    const result = fly(own, prefetch => source.get(id, { sizeBytes, signal, prefetch }), land);
    const flight = { result, abort, prefetch: own, waiting: 0 };
    flights.set(key, flight);
    return flight;
  };

  return {
    tier: source.tier,
    async get(id, { sizeBytes, signal, prefetch }) {
      signal?.throwIfAborted();
      // With its size: a recipe that states a wrong one must not fail the readers of others.
      const key = `${id}:${sizeBytes}`;
      const flight = flights.get(key) ?? depart(id, sizeBytes, key, isUnwanted(prefetch));
      flight.waiting++;
      const want = () => flight.prefetch?.want();
      if (prefetch === undefined) want();
      else prefetch.onWanted(want);
      if (signal === undefined) return flight.result;
      return abandonable(flight.result, signal, () => {
        if (--flight.waiting > 0) return;
        // Who comes now must not board a flight that is coming down.
        if (flights.get(key) === flight) flights.delete(key);
        flight.abort.abort(signal.reason);
      });
    },
    put: (id, sealed) => source.put(id, sealed),
    drop: (id, tier) => source.drop(id, tier),
    close: () => source.close(),
  };
}

/** The result, or the signal's reason if that comes first; then `abandon` is called, once. */
function abandonable<V>(result: Promise<V>, signal: AbortSignal, abandon: () => void): Promise<V> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      abandon();
      reject(signal.reason);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    const settled = () => signal.removeEventListener('abort', onAbort);
    result.finally(settled).then(resolve, reject);
  });
}
