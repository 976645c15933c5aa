/** The raw disk as a file, as sparse as the recipe is. */

import type { FileHandle } from 'node:fs/promises';
import { chunkSizeMaxBytes } from '../base/limits.ts';
import type { LazyDisk } from '../image/lazy-disk.ts';
import type { Recipe } from '../recipe/recipe.ts';
import { writeAllAt } from './output-file.ts';
import type { ExportOptions } from './tar.ts';

/** Reads ahead of the write under way, so that fetching, decoding and writing overlap. */
const readsAhead = 4;

interface Piece {
  offsetBytes: number;
  lengthBytes: number;
  reading: Promise<Buffer[]>;
}

export async function writeDisk(
  recipe: Recipe,
  disk: LazyDisk,
  file: FileHandle,
  { onProgress, signal }: ExportOptions,
): Promise<void> {
  const ahead: Piece[] = [];
  const writeNext = async () => {
    signal?.throwIfAborted();
    const { offsetBytes, lengthBytes, reading } = ahead.shift()!;
    const pieces = await reading;
    await writeAllAt(file, pieces, offsetBytes);
    onProgress(offsetBytes + lengthBytes);
  };
  for (const { offsetBytes, lengthBytes } of dataPieces(recipe)) {
    const reading = Promise.resolve(disk.read(offsetBytes, lengthBytes));
    reading.catch(() => {}); // awaited in its turn, or never if an earlier one throws
    ahead.push({ offsetBytes, lengthBytes, reading });
    if (ahead.length > readsAhead) await writeNext();
  }
  while (ahead.length > 0) await writeNext();
  await file.truncate(recipe.diskSizeBytes);
}

/** The disk's chunks, neighbours joined up to one read. */
function* dataPieces(recipe: Recipe): Generator<{ offsetBytes: number; lengthBytes: number }> {
  let start = 0;
  let end = 0;
  for (const { kind, plainSizeBytes } of recipe.segments) {
    const joins = kind === 'chunk' && end - start + plainSizeBytes <= chunkSizeMaxBytes;
    if (!joins && end > start) yield { offsetBytes: start, lengthBytes: end - start };
    if (!joins) start = end;
    end += plainSizeBytes;
    if (kind === 'zero') start = end;
  }
  if (end > start) yield { offsetBytes: start, lengthBytes: end - start };
}
