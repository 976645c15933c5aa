/**
 * Roots that are gone but for objects: a deletion that was cut off, or a writer that came late. A
 * push that slept for days goes on storing chunks until it finds out that its root was collected.
 */

import { inParallel } from '../base/in-parallel.ts';
import {
  pushesPrefix,
  type RootFact,
  type RootId,
  recipesPrefix,
  rootIdOf,
  rootNumber,
  rootPrefix,
  stateKey,
} from '../store/format.ts';
import { isFresh, listLeases } from '../store/lease.ts';
import { isObjectKey } from '../store/object-key.ts';
import type { ObjectStore } from '../store/object-store.ts';
import type { Roots } from '../store/roots.ts';

/** Whoever comes later than that many collections leaves something behind. */
const lateRootsMax = 100;
const listsAtOnce = 16;
/** What S3 is asked at once. */
const removalsAtOnce = 32;
const itemsOnly = { bytesMax: Infinity, bytesOf: () => 0 };

export interface Removed {
  objects: number;
  bytes: number;
}

export interface Remains extends Removed {
  root: RootId;
  /** A marker says that its deletion has begun. */
  isMarked: boolean;
}

/** The oldest first. Errors: those of the store. */
export async function findRemains(
  roots: Roots,
  { now, signal }: { now: Date; signal?: AbortSignal | undefined },
): Promise<Remains[]> {
  const { store } = roots;
  const { roots: readable, deleted } = await roots.view();
  const known = new Set(readable.map(({ id }) => id));
  const newest = rootNumber(readable[0].id);
  // Above the newest there is only what a stranger put, and what another collection opens meanwhile.
  const ids = new Set(deleted.filter(id => rootNumber(id) < newest));
  for (let number = Math.max(1, newest - lateRootsMax); number < newest; number++) {
    ids.add(rootIdOf(number));
  }
  const leases = await listLeases(store, signal);
  for (const lease of leases) if (rootNumber(lease.root) < newest) ids.add(lease.root);
  const held = new Set(leases.filter(lease => isFresh(lease, now)).map(({ root }) => root));
  const found: Remains[] = [];
  await inParallel(ids, { ...itemsOnly, atOnce: listsAtOnce, signal }, async (root, aborting) => {
    const isMarked = deleted.includes(root);
    if (known.has(root) || (held.has(root) && !isMarked)) return;
    const remains = { root, isMarked, objects: 0, bytes: 0 };
    for await (const { key, sizeBytes } of store.list(rootPrefix(root), { signal: aborting })) {
      if (!isObjectKey(key)) continue;
      remains.objects++;
      remains.bytes += sizeBytes;
    }
    const hasLease = leases.some(lease => lease.root === root);
    if (isMarked || remains.objects > 0 || hasLease) found.push(remains);
  });
  return found.sort((a, b) => rootNumber(a.root) - rootNumber(b.root));
}

/**
 * Removes everything of a root that nobody reads any more; may be done again and by several. The
 * marker of the deletion goes last. Errors: those of the store.
 */
export async function removeRoot(
  store: ObjectStore,
  root: RootId,
  signal: AbortSignal | undefined,
): Promise<Removed> {
  const total = { objects: 0, bytes: 0 };
  // Recipes first: whoever still finds one may look for its chunks.
  for (const prefix of [recipesPrefix(root), rootPrefix(root)]) {
    // Twice, since removing what is being listed may hide some of it.
    for (let pass = 1; pass <= 2; pass++) {
      const { objects, bytes } = await removeBelow(store, prefix, signal);
      total.objects += objects;
      total.bytes += bytes;
      if (objects === 0) break;
    }
  }
  await removeBelow(store, `${pushesPrefix}/${root}`, signal);
  for (const fact of ['opened', 'expired', 'alarm', 'deleted'] satisfies RootFact[]) {
    await store.remove(stateKey(root, fact), signal && { signal });
  }
  return total;
}

async function removeBelow(
  store: ObjectStore,
  prefix: string,
  signal: AbortSignal | undefined,
): Promise<Removed> {
  const removed = { objects: 0, bytes: 0 };
  const objects = store.list(prefix, signal && { signal });
  const bounds = { ...itemsOnly, atOnce: removalsAtOnce, signal };
  await inParallel(objects, bounds, async ({ key, sizeBytes }, aborting) => {
    if (!isObjectKey(key)) return; // somebody else's, and no store can name it
    await store.remove(key, { signal: aborting });
    removed.objects++;
    removed.bytes += sizeBytes;
  });
  return removed;
}
