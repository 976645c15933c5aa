/**
 * A raw disk or memory snapshot as it is: cut by content, zero stretches left out, no flattening.
 * Its size is rounded up to whole blocks with zeros, as kernels and virtual machines want disks.
 */

import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { ImgstoreError, ioError } from '../base/errors.ts';
import { blockSizeBytes, chunkSizeMaxBytes, diskSizeMaxBytes } from '../base/limits.ts';
import type { Recipe, Segment } from '../recipe/recipe.ts';
import type { ChunkUploader } from './chunk-uploader.ts';
import { DataRegion, type Piece } from './data-region.ts';
import { LargeFileCutter } from './large-file.ts';
import {
  commit,
  type PushReport,
  type PushTarget,
  pipelineId,
  segmentOf,
  uploaderFor,
} from './push.ts';

export async function pushDisk(path: string, target: PushTarget): Promise<PushReport> {
  const uploader = await uploaderFor(target);
  const region = new DataRegion();
  const { pieces, sizeBytes } = await cutFile(path, region, uploader, target);
  target.onProgress({ phase: 'commit' });
  await uploader.finish();
  const recipe: Recipe = {
    diskSizeBytes: sizeBytes,
    metadataSizeBytes: 0,
    segments: segmentsOf(pieces, region, sizeBytes),
    details: { kind: 'disk', pipeline: pipelineId, saltId: target.salt.id },
  };
  return commit(recipe, uploader, target);
}

async function cutFile(
  path: string,
  region: DataRegion,
  uploader: ChunkUploader,
  { signal }: PushTarget,
): Promise<{ pieces: readonly Piece[]; sizeBytes: number }> {
  const what = `Cannot push disk ${path}`;
  try {
    await using handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = await handle.stat();
    if (!stat.isFile()) throw refused(what, 'it is not a regular file');
    if (stat.size === 0) throw refused(what, 'it is empty');
    if (stat.size > diskSizeMaxBytes) throw refused(what, 'it is over 16 TiB');
    const sizeBytes = Math.ceil(stat.size / blockSizeBytes) * blockSizeBytes;
    const file = new LargeFileCutter(region, uploader);
    file.begin(sizeBytes);
    const buffer = Buffer.allocUnsafe(chunkSizeMaxBytes);
    while (file.position < stat.size) {
      signal?.throwIfAborted();
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, file.position);
      if (bytesRead === 0) throw refused(what, 'it was cut short while it was read');
      await file.write(buffer.subarray(0, Math.min(bytesRead, stat.size - file.position)));
    }
    await file.writeZeros(sizeBytes - stat.size);
    const { pieces, wait } = file.end();
    await wait;
    return { pieces, sizeBytes };
  } catch (error) {
    throw ioError(what, error);
  }
}

/** Every chunk of a raw disk holds one piece of it, so what lies between pieces is zeros. */
function segmentsOf(pieces: readonly Piece[], region: DataRegion, sizeBytes: number): Segment[] {
  const segments: Segment[] = [];
  let offset = 0;
  const zerosTo = (end: number) => {
    if (end > offset) segments.push({ kind: 'zero', plainSizeBytes: end - offset });
    offset = end;
  };
  for (const piece of pieces) {
    zerosTo(piece.fileOffsetBytes);
    const segment = segmentOf(region.chunk(piece.chunk));
    segments.push(segment);
    offset += segment.plainSizeBytes;
  }
  zerosTo(sizeBytes);
  return segments;
}

function refused(what: string, state: string): ImgstoreError {
  return new ImgstoreError('UNSUPPORTED', `${what}: ${state}`, { hint: 'Name a raw disk image.' });
}
