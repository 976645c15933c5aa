/** The home's folder for what lives as long as a daemon: socket, lock, log, mounts. */

import { mkdir } from 'node:fs/promises';
import { errnoOf, ioError } from '../base/errors.ts';

/** Errors: IO. */
export async function makeRunFolder(path: string): Promise<void> {
  const what = `Cannot make ${path}`;
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
  } catch (error) {
    // On a read-only file system Node says ENOENT; without `recursive` it says what is the matter.
    if (errnoOf(error) !== 'ENOENT') throw ioError(what, error);
    await mkdir(path, { mode: 0o700 }).catch(reason => {
      throw ioError(what, reason);
    });
  }
}
