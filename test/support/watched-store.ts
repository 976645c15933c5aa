/**
 * An object store between a test and the store that works: each call goes through a function that
 * may note it, hold it, or have it fail before or after it took effect.
 */

import type { CopyingStore, CopyOptions } from '../../src/store/copying-store.ts';
import type {
  GetObjectOptions,
  ObjectStat,
  ObjectStore,
  PutOptions,
  PutOutcome,
} from '../../src/store/object-store.ts';

export interface StoreCall {
  kind: 'get' | 'stat' | 'put' | 'list' | 'remove' | 'copy';
  /** Of a list, the prefix; of a copy, where to. */
  key: string;
}

/** Calls `work` once, or throws instead; a list is worked when its first object is asked for. */
export type Watch = (call: StoreCall, work: () => Promise<unknown>) => Promise<unknown>;

export class WatchedStore implements ObjectStore, CopyingStore {
  readonly location: string;
  readonly #inner: ObjectStore & CopyingStore;
  readonly #watch: Watch;

  constructor(inner: ObjectStore & CopyingStore, watch: Watch) {
    this.location = inner.location;
    this.#inner = inner;
    this.#watch = watch;
  }

  get(key: string, options: GetObjectOptions): Promise<Buffer | undefined> {
    return this.#call({ kind: 'get', key }, () => this.#inner.get(key, options));
  }

  stat(key: string, options?: { signal?: AbortSignal }): Promise<ObjectStat | undefined> {
    return this.#call({ kind: 'stat', key }, () => this.#inner.stat(key, options));
  }

  put(key: string, bytes: Uint8Array, options: PutOptions): Promise<PutOutcome> {
    return this.#call({ kind: 'put', key }, () => this.#inner.put(key, bytes, options));
  }

  async *list(prefix: string, options?: { signal?: AbortSignal }): AsyncGenerator<ObjectStat> {
    await this.#watch({ kind: 'list', key: prefix }, async () => {});
    yield* this.#inner.list(prefix, options);
  }

  remove(key: string, options?: { signal?: AbortSignal }): Promise<void> {
    return this.#call({ kind: 'remove', key }, () => this.#inner.remove(key, options));
  }

  copy(from: string, to: string, options?: CopyOptions): Promise<boolean> {
    return this.#call({ kind: 'copy', key: to }, () => this.#inner.copy(from, to, options));
  }

  async #call<V>(call: StoreCall, work: () => Promise<V>): Promise<V> {
    let answer: V | undefined;
    await this.#watch(call, async () => {
      answer = await work();
    });
    return answer as V;
  }
}
