/**
 * Objects by key: the one interface to where chunks, recipes and names are kept. Implementations
 * hold no retries, no cache and no knowledge of what an object is; those are wrappers and root.ts.
 *
 * Keys: see object-key.ts. No key is the beginning of another by whole parts (`a` and `a/b`): a
 * folder cannot hold both.
 *
 * Contract (test/contract/object-store.ts runs it against every implementation):
 * - get: all bytes of the object as a buffer of the caller's own, or undefined if absent. An object
 *   over `sizeMaxBytes` is an ImgstoreError LIMIT, not a short read.
 * - put: durable when it resolves, and never seen in part. With `ifAbsent`, an object that is there
 *   is left as it is and the answer is 'exists', which is as durable as 'created'; of several such
 *   puts at once, exactly one creates. Without it the object is replaced atomically. The buffer may
 *   be reused after it resolves.
 * - list: every object below the prefix (whole parts; '' is everything), each once, in no promised
 *   order; what is put or removed meanwhile may or may not appear. Foreign objects appear too, even
 *   under keys that put would refuse.
 * - remove: absent afterwards, durably; removing what is absent is no error.
 * - All may run at once, from several processes. Faults are ImgstoreErrors: UNAVAILABLE if the store
 *   is gone or does not answer, else IO; absence never is one. A key that is none is USAGE. An
 *   aborted signal rejects with its reason; an object that was being put may be there all the same.
 */
export interface ObjectStore {
  /** For messages: where this is, without credentials. */
  readonly location: string;
  get(key: string, options: GetObjectOptions): Promise<Buffer | undefined>;
  stat(key: string, options?: { signal?: AbortSignal }): Promise<ObjectStat | undefined>;
  put(key: string, bytes: Uint8Array, options: PutOptions): Promise<PutOutcome>;
  list(prefix: string, options?: { signal?: AbortSignal }): AsyncIterable<ObjectStat>;
  remove(key: string, options?: { signal?: AbortSignal }): Promise<void>;
}

export interface GetObjectOptions {
  sizeMaxBytes: number;
  signal?: AbortSignal;
}

export interface PutOptions {
  ifAbsent: boolean;
  signal?: AbortSignal;
}

export type PutOutcome = 'created' | 'exists';

export interface ObjectStat {
  key: string;
  sizeBytes: number;
  modified: Date;
}
