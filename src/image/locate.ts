/** Which files of an image lie in ranges of its disk: for messages about chunks that are lost. */

import { DiskReader } from '../erofs/reader.ts';
import { shown, walkDisk } from '../erofs/walk.ts';
import type { Recipe } from '../recipe/recipe.ts';
import type { ChunkReader } from './chunk-reader.ts';
import { diskSource } from './disk-source.ts';
import { LazyDisk } from './lazy-disk.ts';

export interface DiskRange {
  offsetBytes: number;
  lengthBytes: number;
}

/** Enough to name for people; a range may hold thousands of small files. */
const filesMax = 1000;

/**
 * Paths, printable, of the files with bytes in any of the ranges. Walks the image's metadata, which
 * fetches what of it is not local; errors are those of reading it.
 */
export async function filesAt(
  recipe: Recipe,
  reader: ChunkReader,
  ranges: readonly DiskRange[],
): Promise<string[]> {
  const disk = await DiskReader.open(diskSource(new LazyDisk(recipe, reader)));
  const files: string[] = [];
  const hit = (offset: number, length: number) =>
    ranges.some(r => offset < r.offsetBytes + r.lengthBytes && r.offsetBytes < offset + length);
  for await (const { path, inode } of walkDisk(disk)) {
    if (inode.kind !== 'file') continue;
    for await (const { diskOffsetBytes, lengthBytes } of disk.extents(inode)) {
      if (diskOffsetBytes === undefined || !hit(diskOffsetBytes, lengthBytes)) continue;
      files.push(shown(path));
      break;
    }
    if (files.length >= filesMax) break;
  }
  return files;
}
