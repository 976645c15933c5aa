/** Which files of an image lie in ranges of its disk: for messages about chunks that are lost. */

import { DiskReader } from '../erofs/reader.ts';
import { shown, walkDisk } from '../erofs/walk.ts';
import type { Recipe } from '../recipe/recipe.ts';
import type { ChunkReader } from './chunk-reader.ts';
import { metadataSource } from './disk-source.ts';
import { LazyDisk } from './lazy-disk.ts';

export interface DiskRange {
  offsetBytes: number;
  lengthBytes: number;
}

/** Of one range, which may hold thousands of small files: enough to name for people. */
const filesMax = 1000;

interface Sought {
  startBytes: number;
  endBytes: number;
  files: string[];
}

/**
 * For each range, the paths of the files with bytes in it, printable, in the order of a walk. The
 * ranges do not overlap. Walks the image's metadata once, which fetches what of it is not local;
 * errors are those of reading it.
 */
export async function filesAt(
  recipe: Recipe,
  reader: ChunkReader,
  ranges: readonly DiskRange[],
): Promise<string[][]> {
  const found = ranges.map(({ offsetBytes, lengthBytes }): Sought => {
    return { startBytes: offsetBytes, endBytes: offsetBytes + lengthBytes, files: [] };
  });
  const inOrder = [...found].sort((a, b) => a.startBytes - b.startBytes);
  const disk = await DiskReader.open(metadataSource(new LazyDisk(recipe, reader), recipe));
  for await (const { path, inode } of walkDisk(disk)) {
    if (inode.kind !== 'file') continue;
    for await (const { diskOffsetBytes, lengthBytes } of disk.extents(inode)) {
      if (diskOffsetBytes === undefined) continue;
      const endBytes = diskOffsetBytes + lengthBytes;
      for (let i = firstEndingAfter(inOrder, diskOffsetBytes); i < inOrder.length; i++) {
        const { startBytes, files } = inOrder[i]!;
        if (startBytes >= endBytes) break;
        const name = shown(path);
        if (files.length < filesMax && files.at(-1) !== name) files.push(name);
      }
    }
  }
  return found.map(({ files }) => files);
}

function firstEndingAfter(inOrder: readonly Sought[], offsetBytes: number): number {
  let low = 0;
  let high = inOrder.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (inOrder[middle]!.endBytes > offsetBytes) high = middle;
    else low = middle + 1;
  }
  return low;
}
