/**
 * A push's hold on the root that it writes to: an object `pushes/ROOT/ID` that it puts before its
 * first chunk, another that it puts from time to time to say that it goes on, and both removed after
 * its name is written. Garbage collection does not expire a root in which a lease is fresh. A
 * collection holds the root that it copies to in the same way.
 *
 * Invariant: a root that is held was active after the lease was there. So either the collection that
 * retired it finds the lease, or the push finds that it was retired, and takes the next root.
 */

import { randomUUID } from 'node:crypto';
import { ImgstoreError } from '../base/errors.ts';
import { leaseAgeMaxMs, leaseRenewalMs, leftoverAgeMinMs } from '../base/limits.ts';
import { leaseKey, leaseRenewalKey, parseLeaseKey, pushesPrefix, type RootId } from './format.ts';
import type { ObjectStore } from './object-store.ts';
import type { Root, Roots } from './roots.ts';

/** Each round another collection has to open a root at that very moment. */
const attemptsMax = 10;
const removalMaxMs = 5000;

/** What its objects say of a lease; times are the store's. */
export interface Lease {
  root: RootId;
  id: string;
  /** Before anything was put under it. */
  begun: Date;
  /** When its holder was last heard of. */
  seen: Date;
}

/** Of all roots, also of those that are gone. Errors: those of the store. */
export async function listLeases(
  store: ObjectStore,
  signal: AbortSignal | undefined,
): Promise<Lease[]> {
  const leases = new Map<string, Lease>();
  for await (const { key, modified } of store.list(pushesPrefix, signal && { signal })) {
    const parsed = parseLeaseKey(key);
    if (parsed === undefined) continue;
    const { root, lease: id } = parsed;
    const { begun, seen } = leases.get(`${root}/${id}`) ?? { begun: modified, seen: modified };
    leases.set(`${root}/${id}`, {
      root,
      id,
      begun: modified < begun ? modified : begun,
      seen: modified > seen ? modified : seen,
    });
  }
  return [...leases.values()];
}

export function isFresh({ seen }: Lease, now: Date): boolean {
  return now.getTime() - seen.getTime() <= leaseAgeMaxMs;
}

/** When the oldest of the fresh leases that hold the root was begun; undefined if none does. */
export function heldSince(root: RootId, leases: readonly Lease[], now: Date): Date | undefined {
  const begun = leases
    .filter(lease => lease.root === root && isFresh(lease, now))
    .map(lease => lease.begun.getTime());
  return begun.length === 0 ? undefined : new Date(Math.min(...begun));
}

/**
 * Removes what pushes left that were not heard of for so long that they have ended. One that sleeps
 * all the same puts its renewal again. Errors: those of the store.
 */
export async function removeDeadLeases(
  store: ObjectStore,
  now: Date,
  signal: AbortSignal | undefined,
): Promise<void> {
  const aborting = signal && { signal };
  for (const { root, id, seen } of await listLeases(store, signal)) {
    if (now.getTime() - seen.getTime() < leftoverAgeMinMs) continue;
    await store.remove(leaseKey(root, id), aborting);
    await store.remove(leaseRenewalKey(root, id), aborting);
  }
}

export class RootLease implements AsyncDisposable {
  readonly root: Root;
  readonly #roots: Roots;
  readonly #id: string;
  readonly #renewals: NodeJS.Timeout;
  #renewing: Promise<unknown> | undefined;
  /** By the clock that goes on while the machine sleeps. */
  #heldMs = Date.now();

  private constructor(roots: Roots, root: Root, id: string) {
    this.#roots = roots;
    this.root = root;
    this.#id = id;
    // A renewal that fails is made up for by the next; `check` has the last word.
    this.#renewals = setInterval(() => {
      this.#renew().catch(() => {});
    }, leaseRenewalMs).unref();
  }

  /** Of the active root. Errors: those of Roots.view and the store. */
  static async take(roots: Roots, signal: AbortSignal | undefined): Promise<RootLease> {
    const id = randomUUID();
    let root = (await roots.view()).roots[0].id;
    for (let attempt = 1; ; attempt++) {
      const key = leaseKey(root, id);
      await put(roots, key, signal);
      const active = await activeRoot(roots, key);
      if (active.id === root) return new RootLease(roots, active, id);
      await roots.store.remove(key, signal && { signal });
      if (attempt === attemptsMax) throw lost(root, 'roots are collected faster than it begins');
      root = active.id;
    }
  }

  /**
   * Throws BUSY if the root is not to be relied on any more. For who replaced objects, that is as soon
   * as it was retired: what was copied to the next root by then are the objects that were replaced.
   */
  async check({ hasReplaced = false } = {}): Promise<void> {
    const { id } = this.root;
    // After a sleep, or renewals that failed: a collection that looks at leases once more sees this one.
    if (Math.abs(Date.now() - this.#heldMs) > 2 * leaseRenewalMs) await this.#renew();
    const { roots } = await this.#roots.refresh();
    const state = roots.find(root => root.id === id)?.state;
    if (state === 'active' || (state === 'retired' && !hasReplaced)) return;
    if (state === 'retired') throw lost(id, 'a collection copied from it before it was mended');
    throw lost(id, 'it was collected while it was pushed to');
  }

  async #renew(): Promise<void> {
    const nowMs = Date.now();
    const renewing = put(this.#roots, leaseRenewalKey(this.root.id, this.#id), undefined);
    this.#renewing = renewing.catch(() => {});
    await renewing;
    this.#heldMs = nowMs;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#renewals);
    await this.#renewing;
    await remove(this.#roots, leaseKey(this.root.id, this.#id));
    if (this.#renewing === undefined) return;
    await remove(this.#roots, leaseRenewalKey(this.root.id, this.#id));
  }
}

/** As it is now; if that cannot be told, the lease of this key is taken back. */
async function activeRoot(roots: Roots, key: string): Promise<Root> {
  try {
    return (await roots.refresh()).roots[0];
  } catch (error) {
    await remove(roots, key);
    throw error;
  }
}

/** One that stays is passed over when it is old: not worth a long wait for a store that is silent. */
async function remove({ store }: Roots, key: string): Promise<void> {
  await store.remove(key, { signal: AbortSignal.timeout(removalMaxMs) }).catch(() => {});
}

async function put(roots: Roots, key: string, signal: AbortSignal | undefined): Promise<void> {
  await roots.store.put(key, new Uint8Array(), { ifAbsent: false, ...(signal && { signal }) });
}

function lost(id: RootId, state: string): ImgstoreError {
  return new ImgstoreError('BUSY', `Cannot push to root ${id}: ${state}`, {
    hint: 'Push the image again.',
  });
}
