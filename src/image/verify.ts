/**
 * Checks one image against its store: every chunk is there, is what its id says, opens and has its
 * size; and, if all of the metadata does, the disk holds together. Nothing stops at the first fault:
 * all are listed, with the files that they touch.
 */

import { describeError, ImgstoreError } from '../base/errors.ts';
import { Limiter } from '../base/limiter.ts';
import { MiB } from '../base/limits.ts';
import type { ChunkSource } from '../cache/chunk-source.ts';
import { checkDisk } from '../erofs/check.ts';
import type { ChunkSegment, Recipe } from '../recipe/recipe.ts';
import { openChunk } from '../seal/seal.ts';
import { ChunkReader } from './chunk-reader.ts';
import { DecodedCache } from './decoded-cache.ts';
import { diskSource } from './disk-source.ts';
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
  chunks: number;
  storedBytes: number;
  faults: ImageFault[];
}

/** `source` is the store itself, verified, not a cache. Errors: only an abort and bugs. */
export async function verifyImage(
  recipe: Recipe,
  source: ChunkSource,
  options: { onProgress: (checkedBytes: number) => void; signal?: AbortSignal },
): Promise<ImageVerdict> {
  const distinct = new Map<string, ChunkSegment>();
  for (const segment of recipe.segments) {
    if (segment.kind === 'chunk')
      distinct.set(`${segment.id} ${segment.key.toString('hex')}`, segment);
  }
  const problems = new Map<ChunkSegment, string>();
  let storedBytes = 0;
  const limiter = new Limiter(chunksAtOnce);
  const running: Promise<void>[] = [];
  for (const segment of distinct.values()) {
    await limiter.acquire();
    options.signal?.throwIfAborted();
    const check = checkChunk(segment, source, problems).finally(() => {
      limiter.release();
      storedBytes += segment.sealedSizeBytes;
      options.onProgress(storedBytes);
    });
    running.push(check);
    if (running.length >= 4 * chunksAtOnce) await Promise.all(running.splice(0));
  }
  await Promise.all(running);
  const faults = await describeFaults(recipe, source, problems);
  return { chunks: distinct.size, storedBytes, faults };
}

async function checkChunk(
  segment: ChunkSegment,
  source: ChunkSource,
  problems: Map<ChunkSegment, string>,
): Promise<void> {
  try {
    const hit = await source.get(segment.id, { sizeBytes: segment.sealedSizeBytes });
    if (hit === undefined) problems.set(segment, 'it is not in the store');
    else await openChunk(hit.sealed, segment);
  } catch (error) {
    if (!(error instanceof ImgstoreError)) throw error;
    problems.set(segment, error.message);
  }
}

async function describeFaults(
  recipe: Recipe,
  source: ChunkSource,
  problems: ReadonlyMap<ChunkSegment, string>,
): Promise<ImageFault[]> {
  const reader = new ChunkReader(source, new DecodedCache(structureCacheBytes), {
    chunksInFlightMax: chunksAtOnce,
  });
  const ranges = rangesOf(recipe);
  const metadataIsWhole = [...problems.keys()].every(segment =>
    ranges.get(segment.id)!.every(r => r.offsetBytes >= recipe.metadataSizeBytes),
  );
  const readable = recipe.details.kind === 'oci' && metadataIsWhole;
  const faults: ImageFault[] = [];
  for (const [segment, problem] of problems) {
    const files = readable ? await filesAt(recipe, reader, ranges.get(segment.id)!) : [];
    faults.push({ chunk: segment.id, problem, files });
  }
  if (readable) {
    const fault = await structureFault(recipe, reader);
    if (fault !== undefined) faults.push(fault);
  }
  return faults;
}

async function structureFault(
  recipe: Recipe,
  reader: ChunkReader,
): Promise<ImageFault | undefined> {
  try {
    await checkDisk(diskSource(new LazyDisk(recipe, reader)));
    return undefined;
  } catch (error) {
    if (!(error instanceof ImgstoreError)) throw error;
    return { problem: describeError(error), files: [] };
  }
}

/** Where on the disk each chunk stands. */
function rangesOf(recipe: Recipe): Map<string, DiskRange[]> {
  const ranges = new Map<string, DiskRange[]>();
  let offsetBytes = 0;
  for (const segment of recipe.segments) {
    if (segment.kind === 'chunk') {
      const range = { offsetBytes, lengthBytes: segment.plainSizeBytes };
      const known = ranges.get(segment.id);
      if (known === undefined) ranges.set(segment.id, [range]);
      else known.push(range);
    }
    offsetBytes += segment.plainSizeBytes;
  }
  return ranges;
}
