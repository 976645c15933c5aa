/** What tests of push and of its readers share: a target to push to, images, and a way to read back. */

import { createCipheriv } from 'node:crypto';
import { type OciDigest, ociDigest } from '../../src/base/digest.ts';
import type { ChunkSource } from '../../src/cache/chunk-source.ts';
import { storeSource } from '../../src/cache/store-source.ts';
import { verified } from '../../src/cache/verified.ts';
import { ChunkReader } from '../../src/image/chunk-reader.ts';
import { DecodedCache } from '../../src/image/decoded-cache.ts';
import { LazyDisk } from '../../src/image/lazy-disk.ts';
import { type ImageVerdict, verifyImage } from '../../src/image/verify.ts';
import { DedupSalt } from '../../src/keys/keys.ts';
import type { PushTarget } from '../../src/push/push.ts';
import { parseImageName } from '../../src/recipe/name.ts';
import type { Recipe } from '../../src/recipe/recipe.ts';
import type { CopyingStore } from '../../src/store/copying-store.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import type { Roots } from '../../src/store/roots.ts';
import { rootsOf, TestCatalog } from './catalogs.ts';
import { MemoryImage, type MemoryImageOptions } from './memory-image.ts';
import type { Random } from './random.ts';
import { type LayerEntry, tarOf } from './tar-builder.ts';

export const salt = new DedupSalt(Buffer.alloc(32, 0x5a));

/** An image of its own manifest; layers bottom first. */
export class TestImage extends MemoryImage {
  override readonly manifestDigest: OciDigest;

  constructor(layers: readonly (readonly LayerEntry[])[], options?: MemoryImageOptions) {
    super(layers.map(tarOf), options);
    this.manifestDigest = ociDigest(Buffer.from(this.layers.map(layer => layer.digest).join()));
  }
}

/** Makes the store if it is not there. */
export async function targetOn(
  store: ObjectStore & CopyingStore,
  name: string,
  changed: Partial<PushTarget> = {},
): Promise<PushTarget> {
  const roots = rootsOf(store);
  await roots.view();
  return {
    name: parseImageName(name),
    roots,
    catalog: new TestCatalog(roots),
    salt,
    rewrite: false,
    now: () => new Date('2026-01-02T03:04:05.678Z'),
    onProgress: () => {},
    onWarning: () => {},
    ...changed,
  };
}

export function sourceOf(roots: Roots): ChunkSource {
  return verified(storeSource(roots));
}

export function readerOf(source: ChunkSource, memoryBytes = 2 ** 26): ChunkReader {
  return new ChunkReader(source, new DecodedCache(memoryBytes), { chunksInFlightMax: 4 });
}

export function diskOf(recipe: Recipe, roots: Roots): LazyDisk {
  return new LazyDisk(recipe, readerOf(sourceOf(roots)));
}

export async function verdictOn(recipe: Recipe, roots: Roots): Promise<ImageVerdict> {
  return verifyImage(recipe, sourceOf(roots), { onProgress: () => {} });
}

/** As Random.bytes, but megabytes of them in no time. */
export function manyBytes(random: Random, sizeBytes: number): Buffer {
  const cipher = createCipheriv('aes-128-ctr', random.bytes(16), Buffer.alloc(16));
  return cipher.update(Buffer.alloc(sizeBytes));
}
