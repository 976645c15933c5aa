/** A file that appears whole under its name, or not at all: written beside it, then renamed. */

import { randomBytes } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ioError } from '../base/errors.ts';

export async function writeOutputFile(
  path: string,
  write: (file: FileHandle) => Promise<void>,
): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.new`;
  try {
    try {
      await using file = await open(temporary, 'wx', 0o644);
      await write(file);
      await file.sync();
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
    await rename(temporary, path);
    await using folder = await open(dirname(path), 'r');
    await folder.sync();
  } catch (error) {
    throw ioError(`Cannot write ${path}`, error);
  }
}
