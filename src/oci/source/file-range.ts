/**
 * Runs of bytes of regular files, read ahead by a bounded amount so that the disk works while the
 * consumer does. Whatever else a path may lead to (a FIFO would block for ever, a device never ends)
 * is refused before it is read.
 */

import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { errnoOf, ImgstoreError, ioError } from '../../base/errors.ts';
import { KiB } from '../../base/limits.ts';

/** Of 128, 256 and 512 KiB, the last keeps the decoders busiest beside a busy consumer. */
const pieceSizeBytes = 512 * KiB;
const readAheadPieces = 4;

export interface FileRange {
  offsetBytes: number;
  sizeBytes: number;
}

/** Undefined if there is no such file. `label` is what to call it in messages. */
export async function openRegularFile(
  path: string,
  label: string,
): Promise<{ file: FileHandle; sizeBytes: number } | undefined> {
  let file: FileHandle;
  try {
    // Without O_NONBLOCK, opening a FIFO waits for a writer.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
    if (errnoOf(error) === 'ENXIO') throw notRegular(label);
    throw ioError(`Cannot read ${label}`, error);
  }
  try {
    const stat = await file.stat();
    if (!stat.isFile()) throw notRegular(label);
    return { file, sizeBytes: stat.size };
  } catch (error) {
    await file.close();
    throw ioError(`Cannot read ${label}`, error);
  }
}

export function notRegular(label: string): ImgstoreError {
  return new ImgstoreError('UNSUPPORTED', `Cannot read ${label}: it is not a regular file`, {
    hint: 'Copy the image to plain files.',
  });
}

/**
 * The range in pieces that belong to the consumer. CORRUPT if the file ends within it. When the
 * iteration is over, however it ended, no read is under way and the file may be closed.
 */
export async function* readRange(
  file: FileHandle,
  range: FileRange,
  label: string,
): AsyncGenerator<Buffer, void> {
  const endBytes = range.offsetBytes + range.sizeBytes;
  const ahead: Promise<Buffer>[] = [];
  let next = range.offsetBytes;
  try {
    for (;;) {
      while (ahead.length < readAheadPieces && next < endBytes) {
        const piece = readFully(file, next, Math.min(pieceSizeBytes, endBytes - next), label);
        // It may fail while nobody waits for it yet; who takes it from the queue will see that.
        piece.catch(() => {});
        ahead.push(piece);
        next += pieceSizeBytes;
      }
      const piece = ahead.shift();
      if (piece === undefined) return;
      yield await piece;
    }
  } finally {
    await Promise.allSettled(ahead);
  }
}

/** Exactly the bytes asked for; CORRUPT if the file ends before. */
export async function readFully(
  file: FileHandle,
  offsetBytes: number,
  lengthBytes: number,
  label: string,
): Promise<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(lengthBytes);
  let filled = 0;
  while (filled < lengthBytes) {
    let bytesRead: number;
    try {
      const left = lengthBytes - filled;
      ({ bytesRead } = await file.read(buffer, filled, left, offsetBytes + filled));
    } catch (error) {
      throw ioError(`Cannot read ${label}`, error);
    }
    if (bytesRead === 0) {
      throw new ImgstoreError('CORRUPT', `Cannot read ${label}: its file ends in the middle`, {
        hint: 'It was cut short or is still being written; copy the image again.',
      });
    }
    filled += bytesRead;
  }
  return buffer;
}
