/**
 * A regular file's bytes out of a lazy disk, holes as zeros, a few pieces read ahead so that
 * fetching, decoding and writing overlap.
 */

import { chunkSizeMaxBytes } from '../base/limits.ts';
import type { DiskInode, DiskReader } from '../erofs/reader.ts';
import type { LazyDisk } from '../image/lazy-disk.ts';

const piecesAhead = 4;
const zeros = Buffer.alloc(chunkSizeMaxBytes);

export async function* fileBytes(
  disk: LazyDisk,
  reader: DiskReader,
  file: DiskInode,
): AsyncGenerator<Buffer> {
  const ahead: Promise<Buffer[]>[] = [];
  for await (const { offsetBytes, lengthBytes } of pieces(reader, file)) {
    const piece =
      offsetBytes === undefined
        ? [zeros.subarray(0, lengthBytes)]
        : disk.read(offsetBytes, lengthBytes);
    const reading = Promise.resolve(piece);
    reading.catch(() => {}); // awaited in its turn, or never if an earlier one throws
    ahead.push(reading);
    if (ahead.length >= piecesAhead) yield* await ahead.shift()!;
  }
  for (const reading of ahead) yield* await reading;
}

async function* pieces(reader: DiskReader, file: DiskInode) {
  for await (const { diskOffsetBytes, lengthBytes } of reader.extents(file)) {
    for (let done = 0; done < lengthBytes; done += chunkSizeMaxBytes) {
      yield {
        offsetBytes: diskOffsetBytes === undefined ? undefined : diskOffsetBytes + done,
        lengthBytes: Math.min(chunkSizeMaxBytes, lengthBytes - done),
      };
    }
  }
}
