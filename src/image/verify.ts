/**
 * Checks one image against its store: every chunk is there, is what its id says, opens and has its
 * size; and, if all of the metadata does, the disk holds together. Nothing stops at the first fault:
 * all are listed, with the files that they touch.
 */

import type { ChunkId } from '../base/digest.ts';
import { describeError, ImgstoreError } from '../base/errors.ts';
import { release } from '../base/external-memory.ts';
import { inParallel } from '../base/in-parallel.ts';
import { MiB } from '../base/limits.ts';
import type { ChunkSource } from '../cache/chunk-source.ts';
import { checkDisk } from '../erofs/check.ts';
import { type ChunkSegment, type Recipe, storedSize } from '../recipe/recipe.ts';
import { openChunk } from '../seal/seal.ts';
import { ChunkReader } from './chunk-reader.ts';
import { DecodedCache } from './decoded-cache.ts';
import { metadataSource } from './disk-source.ts';
import { LazyDisk } from './lazy-disk.ts';
import { type DiskRange, filesAt } from './locate.ts';
import type { WholeChunks } from './whole-chunks.ts';

/**
 * Enough for a store that takes tens of milliseconds to answer. Of each the sealed and the plain
 * bytes are held.
 */
const chunksAtOnce = 32;
const chunksAtOnceMaxBytes = 32 * MiB;
/** Reads of the disk's structure follow each other, but for the chunks of one read. */
const structureReadsMax = 8;
const structureCacheBytes = 64 * MiB;

export interface ImageFault {
  /** Absent if the fault is not one chunk's. */
  chunk?: ChunkId;
  problem: string;
  /** Files with bytes in the chunk; empty if that cannot be told. */
  files: string[];
}

export interface ImageVerdict {
  /** Distinct ones. */
  chunks: number;
  storedBytes: number;
  /** Of these, what was fetched: not what was found whole before. */
  checkedChunks: number;
  checkedBytes: number;
  faults: ImageFault[];
}

export interface VerifyOptions {
  /** Sealed bytes of the chunks that are done, and of all of the image. */
  onProgress: (doneBytes: number, totalBytes: number) => void;
  /** Chunks found whole before in this run are not fetched again; those found whole now are added. */
  whole?: WholeChunks;
  signal?: AbortSignal | undefined;
}

/**
 * `source` is the store itself, verified, not a cache. Errors: UNAVAILABLE, since a store that is
 * gone says nothing about an image, and the signal's reason.
 */
export async function verifyImage(
  recipe: Recipe,
  source: ChunkSource,
  { onProgress, whole, signal }: VerifyOptions,
): Promise<ImageVerdict> {
  const distinct = new Map<ChunkId, ChunkSegment>();
  for (const segment of recipe.segments) {
    if (segment.kind === 'chunk') distinct.set(segment.id, segment);
  }
  const { storedBytes } = storedSize(recipe);
  const checked = { checkedChunks: 0, checkedBytes: 0 };
  const problems = new Map<ChunkId, string>();
  let doneBytes = 0;
  const bounds = {
    atOnce: chunksAtOnce,
    bytesMax: chunksAtOnceMaxBytes,
    bytesOf: (segment: ChunkSegment) => segment.sealedSizeBytes + segment.plainSizeBytes,
    signal,
  };
  await inParallel(distinct.values(), bounds, async (segment, aborting) => {
    if (!whole?.has(segment)) {
      const problem = await problemOf(segment, source, aborting);
      if (problem === undefined) whole?.add(segment);
      else problems.set(segment.id, problem);
      checked.checkedChunks++;
      checked.checkedBytes += segment.sealedSizeBytes;
    }
    doneBytes += segment.sealedSizeBytes;
    onProgress(doneBytes, storedBytes);
  });
  const inOrder = new Map([...distinct.keys()].flatMap(id => entryOf(problems, id)));
  const faults = await describeFaults(recipe, source, inOrder, signal);
  return { chunks: distinct.size, storedBytes, ...checked, faults };
}

function entryOf<K, V>(map: ReadonlyMap<K, V>, key: K): [K, V][] {
  const value = map.get(key);
  return value === undefined ? [] : [[key, value]];
}

async function problemOf(
  segment: ChunkSegment,
  source: ChunkSource,
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    const hit = await source.get(segment.id, { sizeBytes: segment.sealedSizeBytes, signal });
    if (hit === undefined) return 'it is not in the store';
    release(await openChunk(hit.sealed, segment));
    return undefined;
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof ImgstoreError) || error.code === 'UNAVAILABLE') throw error;
    return error.message;
  }
}

async function describeFaults(
  recipe: Recipe,
  source: ChunkSource,
  problems: ReadonlyMap<ChunkId, string>,
  signal: AbortSignal | undefined,
): Promise<ImageFault[]> {
  const ranges = rangesOf(recipe, problems);
  const metadataIsWhole = ranges.every(range => range.offsetBytes >= recipe.metadataSizeBytes);
  const files = new Map([...problems.keys()].map(chunk => [chunk, new Set<string>()]));
  let structure: ImageFault | undefined;
  if (recipe.details.kind === 'oci' && metadataIsWhole) {
    const reader = new ChunkReader(source, new DecodedCache(structureCacheBytes), {
      chunksInFlightMax: structureReadsMax,
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
  problems: ReadonlyMap<ChunkId, string>,
): (DiskRange & { chunk: ChunkId })[] {
  const ranges: (DiskRange & { chunk: ChunkId })[] = [];
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
