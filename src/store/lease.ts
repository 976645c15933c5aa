/**
 * A push's hold on the root that it writes to: an object `pushes/ROOT/…` that it puts before its
 * first chunk, again from time to time, and removes after its name is written. Garbage collection
 * does not expire a root in which a lease is fresh.
 *
 * Invariant: a root that is held was active after the lease was there. So either the collection that
 * retired it finds the lease, or the push finds that it was retired, and takes the next root.
 */

import { randomUUID } from 'node:crypto';
import { ImgstoreError } from '../base/errors.ts';
import { leaseRenewalMs } from '../base/limits.ts';
import { pushesPrefix, type RootId } from './format.ts';
import type { Root, Roots } from './roots.ts';

/** Each round another collection has to open a root at that very moment. */
const attemptsMax = 10;

export class RootLease implements AsyncDisposable {
  readonly root: Root;
  readonly #roots: Roots;
  readonly #key: string;
  readonly #renewals: NodeJS.Timeout;
  #renewing: Promise<unknown> = Promise.resolve();

  private constructor(roots: Roots, root: Root, key: string) {
    this.#roots = roots;
    this.root = root;
    this.#key = key;
    // A renewal that fails is made up for by the next; `check` has the last word.
    this.#renewals = setInterval(() => {
      this.#renewing = put(roots, key, undefined).catch(() => {});
    }, leaseRenewalMs).unref();
  }

  /** Of the active root. Errors: those of Roots.view and the store. */
  static async take(roots: Roots, signal: AbortSignal | undefined): Promise<RootLease> {
    let { id } = (await roots.view()).roots[0];
    for (let attempt = 1; ; attempt++) {
      const key = leaseKey(id);
      await put(roots, key, signal);
      const [active] = (await roots.refresh()).roots;
      if (active.id === id) return new RootLease(roots, active, key);
      await roots.store.remove(key, signal && { signal });
      if (attempt === attemptsMax) throw lost(id, 'roots are collected faster than it begins');
      id = active.id;
    }
  }

  /** Throws BUSY if the root is not to be relied on any more. */
  async check(): Promise<void> {
    const { id } = this.root;
    const { roots } = await this.#roots.refresh();
    const state = roots.find(root => root.id === id)?.state;
    if (state === 'active' || state === 'retired') return;
    throw lost(id, 'it was collected while it was pushed to');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#renewals);
    await this.#renewing;
    // One that stays is passed over when it is old.
    await this.#roots.store.remove(this.#key).catch(() => {});
  }
}

function leaseKey(id: RootId): string {
  return `${pushesPrefix}/${id}/${randomUUID()}`;
}

async function put(roots: Roots, key: string, signal: AbortSignal | undefined): Promise<void> {
  await roots.store.put(key, new Uint8Array(), { ifAbsent: false, ...(signal && { signal }) });
}

function lost(id: RootId, state: string): ImgstoreError {
  return new ImgstoreError('BUSY', `Cannot push to root ${id}: ${state}`, {
    hint: 'Push the image again.',
  });
}
