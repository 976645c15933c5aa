/**
 * The push of a raw disk or memory snapshot as it is: cut by content, zero stretches left out, no
 * flattening. Its size is rounded up to whole blocks with zeros, as kernels and virtual machines
 * want disks.
 */

import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { type ErrorCode, ImgstoreError, ioError } from '../base/errors.ts';
import { blockSizeBytes, chunkSizeMaxBytes, diskSizeMaxBytes, KiB } from '../base/limits.ts';
import type { Recipe, Segment } from '../recipe/recipe.ts';
import type { ChunkUploader } from './chunk-uploader.ts';
import {
  type ConvertTarget,
  imageNow,
  type PushReport,
  PushSession,
  type PushTarget,
  saltDetails,
  segmentOf,
} from './commit.ts';
import { DataRegion, type Piece } from './data-region.ts';
import { LargeFileCutter } from './large-file.ts';
import { pipelineId } from './pipeline.ts';

/**
 * Zeros are left out by this much. Whatever the disk's size, so that a disk that grew is cut as it
 * was; at 12 bytes of recipe, a finer grain would hardly find more.
 */
const zeroWindowBytes = 64 * KiB;

/** Before anything is made for it. Errors: UNSUPPORTED for what is no disk image, LIMIT, IO. */
export async function checkDisk(path: string): Promise<void> {
  try {
    await using _disk = await openDisk(path);
  } catch (error) {
    throw ioError(`Cannot push disk ${path}`, error);
  }
}

/** Errors: as pushImage and checkDisk. */
export async function pushDisk(path: string, target: PushTarget): Promise<PushReport> {
  await imageNow(target);
  await using session = await PushSession.open(target);
  return await session.commit(await convertDisk(path, session.uploader, target), target);
}

/** The recipe of a raw disk. When it resolves, the uploader has stored every chunk. Errors: as pushDisk. */
export async function convertDisk(
  path: string,
  uploader: ChunkUploader,
  target: ConvertTarget,
): Promise<Recipe> {
  const { segments, sizeBytes } = await cutFile(path, uploader, target);
  return {
    diskSizeBytes: sizeBytes,
    metadataSizeBytes: 0,
    segments,
    details: { kind: 'disk', pipeline: pipelineId, ...saltDetails(target.salt) },
  };
}

async function cutFile(
  path: string,
  uploader: ChunkUploader,
  { signal, onProgress }: ConvertTarget,
): Promise<{ segments: Segment[]; sizeBytes: number }> {
  const what = `Cannot push disk ${path}`;
  try {
    await using handle = await openDisk(path);
    const stat = await handle.stat();
    const sizeBytes = Math.ceil(stat.size / blockSizeBytes) * blockSizeBytes;
    const region = new DataRegion();
    const file = new LargeFileCutter(region, uploader);
    file.begin({ sizeBytes, windowBytes: zeroWindowBytes });
    const buffer = Buffer.allocUnsafeSlow(chunkSizeMaxBytes);
    while (file.position < stat.size) {
      signal?.throwIfAborted();
      const wanted = Math.min(buffer.length, stat.size - file.position);
      const { bytesRead } = await handle.read(buffer, 0, wanted, file.position);
      if (bytesRead === 0) throw cutShort(what);
      file.write(buffer.subarray(0, bytesRead));
      onProgress({ phase: 'disk', readBytes: file.position, sizeBytes: stat.size });
      await uploader.backlog;
    }
    file.writeZeros(sizeBytes - stat.size);
    const { pieces } = file.end();
    onProgress({ phase: 'commit' });
    await uploader.finish();
    return { segments: segmentsOf(pieces, region, sizeBytes), sizeBytes };
  } catch (error) {
    throw ioError(what, error);
  }
}

async function openDisk(path: string): Promise<FileHandle> {
  const what = `Cannot push disk ${path}`;
  // Without O_NONBLOCK, opening a FIFO waits for a writer.
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw refused('UNSUPPORTED', what, 'it is not a regular file');
    if (stat.size === 0) throw refused('UNSUPPORTED', what, 'it is empty');
    if (stat.size > diskSizeMaxBytes) throw refused('LIMIT', what, 'it is over 16 TiB');
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
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

function refused(code: ErrorCode, what: string, state: string): ImgstoreError {
  return new ImgstoreError(code, `${what}: ${state}`, { hint: 'Name a raw disk image.' });
}

function cutShort(what: string): ImgstoreError {
  return new ImgstoreError('IO', `${what}: it was cut short while it was read`, {
    hint: 'Leave it alone while it is pushed.',
  });
}
