/** An ObjectStore in memory, for tests of what stands on one. */

import { ImgstoreError } from '../../src/base/errors.ts';
import type { CopyingStore, CopyOptions } from '../../src/store/copying-store.ts';
import { checkKeyPrefix, checkObjectKey } from '../../src/store/object-key.ts';
import type {
  GetObjectOptions,
  ObjectStat,
  ObjectStore,
  PutOptions,
  PutOutcome,
} from '../../src/store/object-store.ts';

type Aborting = { signal?: AbortSignal };

export class MemoryStore implements ObjectStore, CopyingStore {
  readonly location = 'memory:';
  /** Open to tests: to look at, to damage, to take away. */
  readonly objects = new Map<string, { bytes: Buffer; modified: Date }>();
  readonly #now: () => number;

  constructor(options: { now?: () => number } = {}) {
    this.#now = options.now ?? Date.now;
  }

  async get(key: string, { sizeMaxBytes, signal }: GetObjectOptions): Promise<Buffer | undefined> {
    this.#enter(key, signal);
    const object = this.objects.get(key);
    if (object === undefined) return undefined;
    if (object.bytes.length > sizeMaxBytes) {
      throw new ImgstoreError(
        'LIMIT',
        `Cannot read ${key}: it has more than ${sizeMaxBytes} bytes`,
      );
    }
    return Buffer.from(object.bytes);
  }

  async stat(key: string, { signal }: Aborting = {}): Promise<ObjectStat | undefined> {
    this.#enter(key, signal);
    return this.#stat(key);
  }

  async put(key: string, bytes: Uint8Array, options: PutOptions): Promise<PutOutcome> {
    this.#enter(key, options.signal);
    if (options.ifAbsent && this.objects.has(key)) return 'exists';
    this.objects.set(key, { bytes: Buffer.from(bytes), modified: new Date(this.#now()) });
    return 'created';
  }

  async *list(prefix: string, { signal }: Aborting = {}): AsyncGenerator<ObjectStat> {
    signal?.throwIfAborted();
    checkKeyPrefix(prefix);
    for (const key of [...this.objects.keys()]) {
      signal?.throwIfAborted();
      const found = prefix === '' || key.startsWith(`${prefix}/`) ? this.#stat(key) : undefined;
      if (found !== undefined) yield found;
    }
  }

  async copy(from: string, to: string, options: CopyOptions = {}): Promise<boolean> {
    this.#enter(from, options.signal);
    checkObjectKey(to);
    if (options.ifAbsent === true && this.objects.has(to)) return true;
    const object = this.objects.get(from);
    if (object !== undefined) this.objects.set(to, { ...object, modified: new Date(this.#now()) });
    return object !== undefined;
  }

  async remove(key: string, { signal }: Aborting = {}): Promise<void> {
    this.#enter(key, signal);
    this.objects.delete(key);
  }

  #enter(key: string, signal: AbortSignal | undefined): void {
    checkObjectKey(key);
    signal?.throwIfAborted();
  }

  #stat(key: string): ObjectStat | undefined {
    const object = this.objects.get(key);
    return object && { key, sizeBytes: object.bytes.length, modified: object.modified };
  }
}
