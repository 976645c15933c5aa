/**
 * Checks one image against its store: every chunk is there, is what its id says, opens and has its
 * size; and, if all of the metadata does, the disk holds together. Nothing stops at the first fault:
 * all are listed, with the files that they touch.
 */

import { describeError, ImgstoreError } from '../base/errors.ts';
import { MiB } from '../base/limits.ts';
import type { ChunkSource } from '../cache/chunk-source.ts';
import { checkDisk } from '../erofs/check.ts';
import type { ChunkSegment, Recipe } from '../recipe/recipe.ts';
import { openChunk } from '../seal/seal.ts';
import { ChunkReader } from './chunk-reader.ts';
import { DecodedCache } from './decoded-cache.ts';
import { metadataSource } from './disk-source.ts';
import { LazyDisk } from './lazy-disk.ts';
import { type DiskRange, filesAt } from './locate.ts';

const chunksAtOnce = 8;
const structureCacheBytes = 64 * MiB;

export interface ImageFault {
  /** Absent if the fault is not one chunk's. */
  chunk?: string;
  problem: string;
  /** Files with bytes in the chunk; empty if that cannot be told. */
  files: string[];
}

export interface ImageVerdict {
  /** Distinct ones. */
  chunks: number;
  storedBytes: number;
  faults: ImageFault[];
}

export interface VerifyOptions {
  onProgress: (checkedBytes: number) => void;
  signal?: AbortSignal;
}

/**
 * `source` is the store itself, verified, not a cache. Errors: UNAVAILABLE, since a store that is
 * gone says nothing about an image, and the signal's reason.
 */
export async function verifyImage(
  recipe: Recipe,
  source: ChunkSource,
  options: VerifyOptions,
): Promise<ImageVerdict> {
  const distinct = new Map<string, ChunkSegment>();
  for (const segment of recipe.segments) {
    if (segment.kind === 'chunk') distinct.set(segment.id, segment);
  }
  const problems = new Map<string, string>();
  let storedBytes = 0;
  const segments = each(distinct.values());
  const checkSome = async () => {
    for (const segment of segments) {
      const problem = await problemOf(segment, source, options.signal);
      if (problem !== undefined) problems.set(segment.id, problem);
      storedBytes += segment.sealedSizeBytes;
      options.onProgress(storedBytes);
    }
  };
  await Promise.all(Array.from({ length: chunksAtOnce }, checkSome));
  const faults = await describeFaults(recipe, source, problems, options.signal);
  return { chunks: distinct.size, storedBytes, faults };
}

/** One iterator for several loops; unlike a map's own, it ends for all when one of them throws. */
function* each<V>(values: Iterable<V>): Generator<V, void, undefined> {
  yield* values;
}

async function problemOf(
  segment: ChunkSegment,
  source: ChunkSource,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  signal?.throwIfAborted();
  const sizeBytes = segment.sealedSizeBytes;
  try {
    const hit = await source.get(segment.id, signal ? { sizeBytes, signal } : { sizeBytes });
    if (hit === undefined) return 'it is not in the store';
    await openChunk(hit.sealed, segment);
    return undefined;
  } catch (error) {
    signal?.throwIfAborted();
    if (!(error instanceof ImgstoreError) || error.code === 'UNAVAILABLE') throw error;
    return error.message;
  }
}

async function describeFaults(
  recipe: Recipe,
  source: ChunkSource,
  problems: ReadonlyMap<string, string>,
  signal: AbortSignal | undefined,
): Promise<ImageFault[]> {
  const ranges = rangesOf(recipe, problems);
  const metadataIsWhole = ranges.every(range => range.offsetBytes >= recipe.metadataSizeBytes);
  const files = new Map([...problems.keys()].map(chunk => [chunk, new Set<string>()]));
  let structure: ImageFault | undefined;
  if (recipe.details.kind === 'oci' && metadataIsWhole) {
    const reader = new ChunkReader(source, new DecodedCache(structureCacheBytes), {
      chunksInFlightMax: chunksAtOnce,
    });
    structure = await structureFault(recipe, reader, signal);
    if (structure === undefined && ranges.length > 0) {
      const found = await filesAt(recipe, reader, ranges);
      ranges.forEach(({ chunk }, i) => {
        for (const file of found[i]!) files.get(chunk)!.add(file);
      });
    }
  }
  const faults = [...problems].map(([chunk, problem]): ImageFault => {
    return { chunk, problem, files: [...files.get(chunk)!] };
  });
  return structure === undefined ? faults : [...faults, structure];
}

async function structureFault(
  recipe: Recipe,
  reader: ChunkReader,
  signal: AbortSignal | undefined,
): Promise<ImageFault | undefined> {
  const disk = metadataSource(new LazyDisk(recipe, reader), recipe);
  try {
    await checkDisk(disk, signal === undefined ? {} : { signal });
    return undefined;
  } catch (error) {
    signal?.throwIfAborted();
    if (!(error instanceof ImgstoreError) || error.code === 'UNAVAILABLE') throw error;
    return { problem: describeError(error), files: [] };
  }
}

/** Where on the disk the damaged chunks stand. */
function rangesOf(
  recipe: Recipe,
  problems: ReadonlyMap<string, string>,
): (DiskRange & { chunk: string })[] {
  const ranges: (DiskRange & { chunk: string })[] = [];
  let offsetBytes = 0;
  for (const segment of recipe.segments) {
    const lengthBytes = segment.plainSizeBytes;
    if (segment.kind === 'chunk' && problems.has(segment.id)) {
      ranges.push({ chunk: segment.id, offsetBytes, lengthBytes });
    }
    offsetBytes += lengthBytes;
  }
  return ranges;
}
