/** A file that appears whole under its name, or not at all: written beside it, then renamed. */

import { randomBytes } from 'node:crypto';
import { type FileHandle, open, realpath, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Writable } from 'node:stream';
import { errnoOf, ImgstoreError, ioError } from '../base/errors.ts';
import { MiB } from '../base/limits.ts';

/**
 * A file that is there is replaced; where a symlink stands, the file that it names. Errors: IO, also
 * if something else is there: a device or a pipe would be renamed over, not written to.
 */
export async function writeOutputFile(
  path: string,
  write: (file: FileHandle) => Promise<void>,
): Promise<void> {
  try {
    const target = await targetOf(path);
    const temporary = `${target}.${randomBytes(6).toString('hex')}.new`;
    try {
      await using file = await open(temporary, 'wx', 0o644);
      await write(file);
      await file.sync();
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
    await rename(temporary, target);
    await using folder = await open(dirname(target), 'r');
    await folder.sync();
  } catch (error) {
    throw ioError(`Cannot write ${path}`, error);
  }
}

async function targetOf(path: string): Promise<string> {
  try {
    const target = await realpath(path);
    if ((await stat(target)).isFile()) return target;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return path;
    throw error;
  }
  throw new ImgstoreError('IO', `Cannot write ${path}: something else than a file is there`, {
    hint: 'Name a new file, or one to replace.',
  });
}

/** For what is written in order. Unlike a stream of Node's own it never closes the file. */
export function outputStream(file: FileHandle): Writable {
  let sizeBytes = 0;
  const append = (pieces: readonly Buffer[], done: (error?: Error | null) => void) => {
    const offsetBytes = sizeBytes;
    for (const piece of pieces) sizeBytes += piece.length;
    writeAllAt(file, pieces, offsetBytes).then(() => done(), done);
  };
  return new Writable({
    highWaterMark: MiB,
    write: (piece: Buffer, _encoding, done) => append([piece], done),
    writev: (parts, done) =>
      append(
        parts.map(({ chunk }) => chunk as Buffer),
        done,
      ),
  });
}

/** Writes all of the pieces at the offset; one call may write less, as when the space runs out. */
export async function writeAllAt(
  file: FileHandle,
  pieces: readonly Buffer[],
  offsetBytes: number,
): Promise<void> {
  let at = offsetBytes;
  let left = pieces.filter(piece => piece.length > 0);
  while (left.length > 0) {
    let { bytesWritten } = await file.writev(left, at);
    at += bytesWritten;
    left = left.flatMap(piece => {
      const done = Math.min(bytesWritten, piece.length);
      bytesWritten -= done;
      return done === piece.length ? [] : [piece.subarray(done)];
    });
  }
}
