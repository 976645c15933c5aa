/**
 * One fetch a chunk, however many wait for it. A waiter that gives up leaves the fetch to the
 * others; when the last one gives up, the fetch is aborted. A fetch is a prefetch until somebody who
 * waits joins it, or one who prefetched wants it.
 */

import type { ChunkId } from '../base/digest.ts';
import type { ChunkSource, GetOptions, SealedHit } from './chunk-source.ts';
import { fly, isUnwanted, Prefetch } from './prefetch.ts';

interface Flight {
  readonly result: Promise<SealedHit | undefined>;
  readonly abort: AbortController;
  readonly prefetch: Prefetch | undefined;
  readonly waiters: Waiters;
}

/**
 * Those who wait for one fetch. Before the lowest tier all are asked, each for its own bound, and the
 * first that may pass opens the way: who came first may have given up, or be a prefetch in a queue.
 */
class Waiters {
  readonly #all = new Set<GetOptions>();
  #way: Way | undefined;

  get size(): number {
    return this.#all.size;
  }

  /** The answer takes it out. */
  add(options: GetOptions): () => void {
    const waiter = { ...options };
    this.#all.add(waiter);
    this.#way?.ask(waiter);
    return () => this.#all.delete(waiter);
  }

  onLowest(): Promise<void> {
    const way = new Way();
    this.#way = way;
    for (const waiter of this.#all) way.ask(waiter);
    return way.opened;
  }
}

class Way {
  readonly #opened = Promise.withResolvers<void>();
  #asked = 0;

  get opened(): Promise<void> {
    return this.#opened.promise;
  }

  ask({ onLowest = async () => {} }: GetOptions): void {
    this.#asked++;
    onLowest().then(this.#opened.resolve, (reason: unknown) => {
      if (--this.#asked === 0) this.#opened.reject(reason);
    });
  }
}

export function coalesced(source: ChunkSource): ChunkSource {
  const flights = new Map<string, Flight>();

  const depart = (id: ChunkId, key: string, { sizeBytes, prefetch }: GetOptions): Flight => {
    const abort = new AbortController();
    const { signal } = abort;
    const waiters = new Waiters();
    const onLowest = () => waiters.onLowest();
    const own = isUnwanted(prefetch) ? new Prefetch() : undefined;
    const land = () => {
      if (flights.get(key) === flight) flights.delete(key);
    };
    const ask = (prefetch: Prefetch | undefined) =>
      source.get(id, { sizeBytes, signal, prefetch, onLowest });
    const result = fly(own, ask, land);
    // What a tier holds for the answer, as the lease on a chunk, is of no use any more.
    result.then(
      hit => hit ?? abort.abort(),
      (reason: unknown) => abort.abort(reason),
    );
    const flight = { result, abort, prefetch: own, waiters };
    flights.set(key, flight);
    return flight;
  };

  return {
    tier: source.tier,
    async get(id, options) {
      const { sizeBytes, signal, prefetch } = options;
      signal?.throwIfAborted();
      // With its size: a recipe that states a wrong one must not fail the readers of others.
      const key = `${id}:${sizeBytes}`;
      const flight = flights.get(key) ?? depart(id, key, options);
      const leave = flight.waiters.add(options);
      const want = () => flight.prefetch?.want();
      if (prefetch === undefined) want();
      else prefetch.onWanted(want);
      if (signal === undefined) return flight.result;
      return abandonable(flight.result, signal, () => {
        leave();
        if (flight.waiters.size > 0) return;
        // Who comes now must not board a flight that is coming down.
        if (flights.get(key) === flight) flights.delete(key);
        flight.abort.abort(signal.reason);
      });
    },
    put: (id, sealed) => source.put(id, sealed),
    drop: id => source.drop(id),
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
