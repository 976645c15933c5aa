/** A lazy disk as the byte source that the EROFS reader reads from. */

import type { DiskSource } from '../erofs/source.ts';
import type { Recipe } from '../recipe/recipe.ts';
import type { LazyDisk } from './lazy-disk.ts';

export function diskSource(disk: LazyDisk): DiskSource {
  return {
    sizeBytes: disk.sizeBytes,
    read: (offsetBytes, lengthBytes) => disk.readBuffer(offsetBytes, lengthBytes),
  };
}

/**
 * The same for who reads no file data: what follows the metadata reads as zeros. The reader's pages
 * reach over the metadata's end, and a data chunk there that is lost must not fail it.
 */
export function metadataSource(disk: LazyDisk, { metadataSizeBytes }: Recipe): DiskSource {
  return {
    sizeBytes: disk.sizeBytes,
    async read(offsetBytes, lengthBytes) {
      const wantedBytes = Math.max(0, Math.min(lengthBytes, metadataSizeBytes - offsetBytes));
      const bytes = await disk.readBuffer(offsetBytes, wantedBytes);
      if (wantedBytes === lengthBytes) return bytes;
      return Buffer.concat([bytes], lengthBytes);
    },
  };
}
