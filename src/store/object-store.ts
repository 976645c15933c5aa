/**
 * Objects by key: the one interface to where chunks, recipes and names are kept. Implementations
 * hold no retries, no cache and no knowledge of what an object is; those are wrappers and layout.ts.
 *
 * Keys are `/`-separated parts of [A-Za-z0-9._%~@+=-], no part empty, `.` or `..`, at most 512 bytes.
 *
 * Contract (test/contract/object-store.ts runs it against every implementation):
 * - get: all bytes of the object as a buffer of the caller's own, or undefined if absent. An object
 *   over `sizeMaxBytes` is an ImgstoreError LIMIT, not a short read.
 * - put: durable when it resolves, and never seen in part. With `ifAbsent`, an object that is there
 *   is left as it is and the answer is 'exists'; of several such puts at once, exactly one creates.
 *   Without it the object is replaced atomically. The buffer may be reused after it resolves.
 * - list: every key below the prefix (a whole number of parts), each once, in no promised order;
 *   what is put or removed meanwhile may or may not appear.
 * - remove: absent afterwards; removing what is absent is no error.
 * - All may run at once, from several processes. Faults are ImgstoreErrors with code IO or
 *   UNAVAILABLE; absence never is one. An aborted signal rejects with its reason.
 */
export interface ObjectStore {
  get(
    key: string,
    options: { sizeMaxBytes: number; signal?: AbortSignal },
  ): Promise<Buffer | undefined>;
  stat(key: string, options?: { signal?: AbortSignal }): Promise<ObjectStat | undefined>;
  put(key: string, bytes: Uint8Array, options: PutOptions): Promise<'created' | 'exists'>;
  list(prefix: string, options?: { signal?: AbortSignal }): AsyncIterable<ObjectStat>;
  remove(key: string, options?: { signal?: AbortSignal }): Promise<void>;
}

export interface PutOptions {
  ifAbsent: boolean;
  signal?: AbortSignal;
}

export interface ObjectStat {
  key: string;
  sizeBytes: number;
  modified: Date;
}
