/**
 * A store with a clock of its own, pushes to it by the real protocol without a pipeline, and what a
 * store must still hold whatever else happened to it.
 */

import assert from 'node:assert/strict';
import { type ChunkId, sha256 } from '../../src/base/digest.ts';
import { sealedChunkSizeMaxBytes } from '../../src/base/limits.ts';
import { type Collected, type CollectOptions, collect } from '../../src/gc/collect.ts';
import { type GcPlan, type GcStep, planCollection } from '../../src/gc/plan.ts';
import { knownChunks } from '../../src/push/known-chunks.ts';
import { parseImageName } from '../../src/recipe/name.ts';
import type { ChunkSegment, Recipe } from '../../src/recipe/recipe.ts';
import type { CopyingStore } from '../../src/store/copying-store.ts';
import { chunkObjectKey } from '../../src/store/format.ts';
import { RootLease } from '../../src/store/lease.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { Roots } from '../../src/store/roots.ts';
import { rootsOf, TestCatalog } from '../support/catalogs.ts';
import { MemoryStore } from '../support/memory-store.ts';

export type TestStore = ObjectStore & CopyingStore;

export const minuteMs = 60_000;
export const hourMs = 60 * minuteMs;

/** What an image is made of: chunks by the text in them. */
export type Contents = readonly string[];

const saltId = 'e28c883df82c4f8d40277fa3cec8954a';

export function chunkOf(text: string): { segment: ChunkSegment; sealed: Buffer } {
  const sealed = Buffer.from(`sealed ${text}`);
  const segment: ChunkSegment = {
    kind: 'chunk',
    id: sha256(sealed).toString('hex') as ChunkId,
    key: sha256(Buffer.from(`key ${text}`)),
    plainSizeBytes: 100,
    sealedSizeBytes: sealed.length,
  };
  return { segment, sealed };
}

export function recipeOf(contents: Contents): Recipe {
  const segments = contents.map(text => chunkOf(text).segment);
  const details = { kind: 'disk', pipeline: 'test', saltId } as const;
  return { diskSizeBytes: 100 * segments.length, metadataSizeBytes: 0, segments, details };
}

/** In the order of any push: lease, what is known there, chunks, recipe, name. */
export async function push(store: TestStore, name: string, contents: Contents): Promise<void> {
  const roots = rootsOf(store);
  const catalog = new TestCatalog(roots);
  const imageName = parseImageName(name);
  await using lease = await RootLease.take(roots, undefined);
  const { root } = lease;
  const known = await knownChunks(catalog, imageName, { saltId, root: root.id });
  for (const text of contents) {
    const { segment, sealed } = chunkOf(text);
    if (known.has(segment.key.toString('hex'))) continue;
    await root.chunks.put(chunkObjectKey(segment.id), sealed, { ifAbsent: true });
  }
  await catalog.commit(imageName, recipeOf(contents), { now: new Date(0), target: lease });
}

export async function remove(store: TestStore, name: string): Promise<void> {
  await new TestCatalog(store).remove(parseImageName(name));
}

export interface GcOptions extends CollectOptions {
  graceMs?: number;
}

export async function plan(store: TestStore, options: GcOptions = {}): Promise<GcPlan> {
  const { graceMs = 0, liveChunksMax } = options;
  return planCollection(new Roots(store), { graceMs, liveChunksMax });
}

export async function gc(store: TestStore, options: GcOptions = {}): Promise<Collected> {
  const { graceMs = 0, liveChunksMax, signal } = options;
  const roots = new Roots(store);
  const made = await planCollection(roots, { graceMs, liveChunksMax, signal });
  return collect(roots, made, options);
}

/** `open r0002`, `wait r0001 push`. */
export function brief(steps: readonly GcStep[]): string[] {
  return steps.map(step => {
    const reason = step.do === 'wait' ? ` ${step.for}` : '';
    return `${step.do} ${step.root}${reason}`;
  });
}

/** Fails unless the name means these contents, and each of them can be read and is right. */
export async function assertWhole(
  on: TestStore | Roots,
  name: string,
  contents: Contents,
  message = name,
): Promise<void> {
  const roots = on instanceof Roots ? on : new Roots(on);
  const { recipe } = await new TestCatalog(roots).open(parseImageName(name));
  assert.deepEqual(recipe, recipeOf(contents), message);
  await assertReadable(roots, contents, message);
}

/** Fails unless the chunks can be read, as by a mount that opened the recipe long ago. */
export async function assertReadable(
  roots: Roots,
  contents: Contents,
  message: string,
): Promise<void> {
  const options = { sizeMaxBytes: sealedChunkSizeMaxBytes };
  for (const text of contents) {
    const { segment, sealed } = chunkOf(text);
    const key = chunkObjectKey(segment.id);
    const hit = await roots.find(root => root.chunks.get(key, options), `chunk ${segment.id}`);
    assert.deepEqual(hit?.found, sealed, `${message}: ${text} in ${hit?.root.id}`);
  }
}

export function keysOf(store: MemoryStore, prefix = ''): string[] {
  return [...store.objects.keys()].filter(key => key.startsWith(prefix)).sort();
}

/** Fails unless the store holds, besides its own documents, what these names need and no more. */
export async function assertExact(
  store: MemoryStore,
  names: ReadonlyMap<string, Contents>,
  message = '',
): Promise<void> {
  const { roots, deleted } = await new Roots(store).view();
  assert.deepEqual([roots.length, deleted], [1, []], message);
  const { id } = roots[0];
  const texts = new Set([...names.values()].flat());
  const recipes = new Set([...names.values()].map(contents => JSON.stringify(contents)));
  const chunks = [...texts].map(text => {
    return `roots/${id}/chunks/${chunkObjectKey(chunkOf(text).segment.id)}`;
  });
  const own = new RegExp(`^(imgstore\\.json|clock|states/${id}\\.opened)$`);
  const others = keysOf(store).filter(key => !own.test(key));
  const isRecipe = (key: string) => key.startsWith(`roots/${id}/recipes/`);
  const isName = (key: string) => key.startsWith('names/');
  assert.equal(others.filter(isName).length, names.size, message);
  assert.equal(others.filter(isRecipe).length, recipes.size, message);
  const rest = others.filter(key => !isName(key) && !isRecipe(key));
  assert.deepEqual(rest, chunks.sort(), message);
  for (const [name, contents] of names) await assertWhole(store, name, contents, message);
}

/** A store whose clock stands still until it is moved. */
export class ClockedStore extends MemoryStore {
  nowMs: number;

  constructor() {
    super({ now: () => this.nowMs });
    this.nowMs = Date.parse('2026-01-01T00:00:00Z');
  }
}
