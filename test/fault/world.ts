/**
 * A store that misbehaves by a seed, what runs on it, and what has to hold whatever it does: nobody
 * reads a wrong byte, failures are errors that say what to do, and no name means what is not there.
 */

import assert from 'node:assert/strict';
import { sha256Hex } from '../../src/base/digest.ts';
import { ImgstoreError } from '../../src/base/errors.ts';
import { Admission } from '../../src/cache/admission.ts';
import { bounded } from '../../src/cache/bounded.ts';
import { storeSource } from '../../src/cache/store-source.ts';
import { tiered } from '../../src/cache/tiered.ts';
import { verified } from '../../src/cache/verified.ts';
import { Catalog } from '../../src/catalog/catalog.ts';
import { collect } from '../../src/gc/collect.ts';
import { planCollection } from '../../src/gc/plan.ts';
import { ChunkReader } from '../../src/image/chunk-reader.ts';
import { DecodedCache } from '../../src/image/decoded-cache.ts';
import { LazyDisk } from '../../src/image/lazy-disk.ts';
import { pushImage } from '../../src/push/push.ts';
import { formatImageName, parseImageName } from '../../src/recipe/name.ts';
import type { Recipe } from '../../src/recipe/recipe.ts';
import type { CopyingStore } from '../../src/store/copying-store.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { Roots } from '../../src/store/roots.ts';
import { heldKeys } from '../support/catalogs.ts';
import { MemorySource } from '../support/memory-source.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { manyBytes, TestImage, targetOn, verdictOn } from '../support/pushing.ts';
import { Random } from '../support/random.ts';
import { ownerKey } from '../support/recipes.ts';
import { assertSameBytes } from '../support/same-bytes.ts';

export type AnyStore = ObjectStore & CopyingStore;

/** Images share a file and differ in two: four chunks each. */
export function faultImage(number: number): TestImage {
  const own = new Random(1000 + number);
  return new TestImage([
    [{ path: 'common', content: manyBytes(new Random(1), 150_000) }],
    [
      { path: 'own', content: manyBytes(own, 90_000) },
      { path: 'other', content: manyBytes(own, 70_000) },
    ],
  ]);
}

export const imageNumbers = [0, 1, 2];

/** The disk of each image, by its recipe's id: what a push to a store that works comes to. */
export async function expectedDisks(): Promise<Map<string, Buffer>> {
  const disks = new Map<string, Buffer>();
  for (const number of imageNumbers) {
    const target = await targetOn(new MemoryStore(), 'app');
    const { recipe: id } = await pushImage(faultImage(number), target);
    const { recipe } = await target.catalog.open(target.name);
    disks.set(id, await wholeDisk(recipe, target.roots));
  }
  return disks;
}

async function wholeDisk(recipe: Recipe, roots: Roots): Promise<Buffer> {
  const reader = new ChunkReader(verified(storeSource(roots)), new DecodedCache(0), {
    chunksInFlightMax: 4,
  });
  return Buffer.from(await new LazyDisk(recipe, reader).readBuffer(0, recipe.diskSizeBytes));
}

/** The read side as the daemon has it: it lives long, and keeps its view of the roots. */
export class LongReader {
  readonly roots: Roots;
  readonly catalog: Catalog;
  readonly #reader: ChunkReader;

  constructor(store: AnyStore) {
    this.roots = new Roots(store);
    this.catalog = new Catalog(this.roots, heldKeys(ownerKey));
    const admission = new Admission({ atOnceMax: 8, prefetchAtOnceMax: 2, prefetchWaitingMax: 8 });
    const source = bounded(verified(storeSource(this.roots)), admission);
    const tiers = tiered([new MemorySource('l1', { verified: false }), source], { log: () => {} });
    this.#reader = new ChunkReader(tiers, new DecodedCache(0), { chunksInFlightMax: 8 });
  }

  diskOf(recipe: Recipe): LazyDisk {
    return new LazyDisk(recipe, this.#reader);
  }
}

/** Plans, then does what the plan says. Gives what was done. */
export async function collectOnce(store: AnyStore, graceMs: number): Promise<string[]> {
  const roots = new Roots(store);
  const { steps } = await collect(roots, await planCollection(roots, { graceMs }));
  return steps.map(step => `${step.do} ${step.root}`);
}

/** Reads some ranges; each is right or an error. Throws the last error. */
export async function readSome(
  disk: LazyDisk,
  expected: Buffer,
  random: Random,
  reads = 6,
): Promise<void> {
  let failure: unknown;
  for (let read = 0; read < reads; read++) {
    const offset = random.below(expected.length);
    const length = random.between(1, 200_000);
    try {
      const bytes = await disk.readBuffer(offset, length);
      assertSameBytes(bytes, expected.subarray(offset, offset + length));
    } catch (error) {
      assertClear(error);
      failure = error;
    }
  }
  if (failure !== undefined) throw failure;
}

/** A failure that whoever meets it can do something about. */
export function assertClear(error: unknown): asserts error is ImgstoreError {
  if (error instanceof assert.AssertionError) throw error;
  assert.ok(error instanceof ImgstoreError, `an ImgstoreError, not ${describe(error)}`);
  assert.match(error.message, /^Cannot /);
  assert.ok((error.hint ?? '') !== '', `a hint: ${error.message}`);
}

function describe(error: unknown): string {
  return error instanceof Error ? `${error.stack}` : String(error);
}

/** What each name means; fails unless all of them open and are whole. */
export async function meaningsIn(
  store: AnyStore,
  expected: ReadonlyMap<string, Buffer>,
): Promise<Map<string, string>> {
  const roots = new Roots(store);
  const catalog = new Catalog(roots, heldKeys(ownerKey));
  const meanings = new Map<string, string>();
  for await (const { name } of catalog.names()) {
    const { recipe, recipeId } = await catalog.open(name);
    const text = formatImageName(name);
    assert.deepEqual((await verdictOn(recipe, roots)).faults, [], text);
    const disk = expected.get(recipeId);
    assert.ok(disk !== undefined, `${text} means what somebody pushed`);
    assert.equal(sha256Hex(await wholeDisk(recipe, roots)), sha256Hex(disk));
    meanings.set(text, recipeId);
  }
  return meanings;
}

export { parseImageName };

/**
 * Rounds with the seeds from `from` on, or the one that IMGSTORE_FAULT_SEED names. A failure names
 * its seed.
 */
export async function rounds(
  count: number,
  from: number,
  round: (random: Random) => Promise<void>,
): Promise<void> {
  const { IMGSTORE_FAULT_SEED: only } = process.env;
  const seeds = only === undefined ? Array.from({ length: count }, (_, i) => from + i) : [+only];
  for (const seed of seeds) {
    try {
      await round(new Random(seed));
    } catch (error) {
      throw new Error(`IMGSTORE_FAULT_SEED=${seed} fails: ${describe(error)}`, { cause: error });
    }
  }
}
