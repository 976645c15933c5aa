/**
 * Looks for the program that a container is to start, as the runtime will, and says in one line what
 * is wrong with it: a runtime's own words for it are of Go or of errno.
 */

import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, ImgstoreError, ioError } from '../base/errors.ts';
import { resolveInRoot } from './root-file.ts';

/** As shells have them. */
const exitStatuses = { notFound: 127, notExecutable: 126 } as const;

export interface StartFailure {
  error: ImgstoreError;
  exitStatus: number;
}

/** Undefined if the program is there and may be executed by somebody. `program`: argv[0]. */
export async function findStartFailure(
  root: string,
  program: string,
  { path, workingDirectory }: { path: string; workingDirectory: string },
): Promise<StartFailure | undefined> {
  const folders = program.includes('/')
    ? [program.startsWith('/') ? '/' : workingDirectory]
    : path
        .split(':')
        .map(folder => (folder.startsWith('/') ? folder : join(workingDirectory, folder)));
  let found: string | undefined;
  for (const folder of folders) {
    const state = await look(root, join(folder, program));
    if (state === 'executable') return undefined;
    if (state !== undefined) found = state;
  }
  const what = `Cannot start ${JSON.stringify(program)}`;
  const hint = 'Give a program of the image: imgstore run NAME -- PROGRAM ARGUMENT…';
  if (found === undefined) {
    const error = new ImgstoreError('NOT_FOUND', `${what}: the image has no such program`, {
      hint,
    });
    return { error, exitStatus: exitStatuses.notFound };
  }
  const error = new ImgstoreError('UNSUPPORTED', `${what}: it is ${found}`, { hint });
  return { error, exitStatus: exitStatuses.notExecutable };
}

async function look(root: string, path: string): Promise<string | undefined> {
  try {
    const found = await stat(await resolveInRoot(root, path));
    if (found.isDirectory()) return 'a directory';
    return found.isFile() && (found.mode & 0o111) !== 0 ? 'executable' : 'not executable';
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR' || errno === 'ELOOP') return undefined;
    throw ioError(`Cannot look for ${path} in the image`, error);
  }
}
