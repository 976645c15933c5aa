/** A lazy disk as the byte source that the EROFS reader reads from. */

import type { DiskSource } from '../erofs/source.ts';
import type { LazyDisk } from './lazy-disk.ts';

export function diskSource(disk: LazyDisk): DiskSource {
  return {
    sizeBytes: disk.sizeBytes,
    read: (offsetBytes, lengthBytes) => disk.readBuffer(offsetBytes, lengthBytes),
  };
}
