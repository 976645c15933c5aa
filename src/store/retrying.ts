/**
 * A store whose requests are tried again (see retry.ts). That is sound for every method, because a
 * second time changes nothing that the first did not, also where only the first one's answer was lost:
 * - get, stat, list: they change nothing. A list goes on from the page that failed.
 * - put with `ifAbsent`: may answer 'exists' where its own first attempt created. Then the object is
 *   there, durable, and under a key that stands for its contents; who asks which of several first
 *   pushes made a store document reads it again and compares.
 * - put that replaces, copy and remove: what another writer did between the two attempts is undone.
 *   The same happens if this one comes a moment later; who cannot bear it must not have two writers.
 *
 * How long: somebody waits for what is read, a program on a mount above all, who is better off with an
 * error after half a minute (the kernel asks twice); what is written belongs to work that should outlast
 * a service's restart.
 *
 * What no retry can know: a request that timed out may still be carried out by the service later.
 */

import type { CopyingStore } from './copying-store.ts';
import type { ObjectStat, ObjectStore } from './object-store.ts';
import type { Retrier } from './retry.ts';

/** A store whose lists come in pages, each of which can be asked for again. */
export interface PagedStore extends ObjectStore {
  /** The first page, or the one that another's `next` names; the last has none. */
  listPage(
    prefix: string,
    options: { page?: string | undefined; signal?: AbortSignal },
  ): Promise<ListPage>;
}

export interface ListPage {
  objects: readonly ObjectStat[];
  next: string | undefined;
}

/** No retry begins later than this after the first attempt began. */
const readElapsedMaxMs = 15_000;
const writeElapsedMaxMs = 90_000;

type Aborting = { signal?: AbortSignal } | undefined;

export function retrying(
  store: PagedStore & CopyingStore,
  retrier: Retrier,
): ObjectStore & CopyingStore {
  const read = <V>(work: () => Promise<V>, options: Aborting) =>
    retrier.run(work, { signal: options?.signal, elapsedMaxMs: readElapsedMaxMs });
  const write = <V>(work: () => Promise<V>, options: Aborting) =>
    retrier.run(work, { signal: options?.signal, elapsedMaxMs: writeElapsedMaxMs });
  return {
    location: store.location,
    get: (key, options) => read(() => store.get(key, options), options),
    stat: (key, options) => read(() => store.stat(key, options), options),
    put: (key, bytes, options) => write(() => store.put(key, bytes, options), options),
    remove: (key, options) => write(() => store.remove(key, options), options),
    copy: (from, to, options) => write(() => store.copy(from, to, options), options),
    list: (prefix, options) =>
      listPages((page, signal) => {
        const paging = { page, ...(signal && { signal }) };
        return read(() => store.listPage(prefix, paging), paging);
      }, options?.signal),
  };
}

/** All objects of all pages. */
export async function* listPages(
  pageAt: (page: string | undefined, signal: AbortSignal | undefined) => Promise<ListPage>,
  signal: AbortSignal | undefined,
): AsyncGenerator<ObjectStat, void, undefined> {
  let page: string | undefined;
  do {
    signal?.throwIfAborted();
    const { objects, next } = await pageAt(page, signal);
    for (const object of objects) {
      signal?.throwIfAborted();
      yield object;
    }
    page = next;
  } while (page !== undefined);
}
