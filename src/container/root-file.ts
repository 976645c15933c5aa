/**
 * Reads a file of a container's root as the container would see it: symlinks are resolved within
 * the root, so that an image cannot make the host read its own files instead.
 */

import { constants } from 'node:fs';
import { lstat, open, readlink } from 'node:fs/promises';
import { errnoOf } from '../base/errors.ts';

const symlinksMax = 40; // as Linux does (MAXSYMLINKS)

/** The file's text, at most `sizeMaxBytes` of it, or undefined if there is no such file. */
export async function readRootFile(
  root: string,
  path: string,
  sizeMaxBytes: number,
): Promise<string | undefined> {
  try {
    const resolved = await resolveInRoot(root, path);
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    await using file = await open(resolved, flags);
    if (!(await file.stat()).isFile()) return undefined;
    const buffer = Buffer.alloc(sizeMaxBytes);
    const { bytesRead } = await file.read(buffer, 0, sizeMaxBytes, 0);
    return buffer.toString('utf8', 0, bytesRead);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR' || errno === 'ELOOP') return undefined;
    throw error;
  }
}

/** Errors: as the operating system's, ENOENT, ENOTDIR, ELOOP, … */
export async function resolveInRoot(root: string, path: string): Promise<string> {
  const pending = path.split('/').reverse();
  const resolved: string[] = [];
  let symlinks = 0;
  while (pending.length > 0) {
    const part = pending.pop()!;
    if (part === '' || part === '.') continue;
    if (part === '..') {
      resolved.pop();
      continue;
    }
    const candidate = [root, ...resolved, part].join('/');
    if (!(await lstat(candidate)).isSymbolicLink()) {
      resolved.push(part);
      continue;
    }
    if (++symlinks > symlinksMax) {
      throw Object.assign(new Error('too many symbolic links'), { code: 'ELOOP' });
    }
    const target = await readlink(candidate);
    if (target.startsWith('/')) resolved.length = 0;
    pending.push(...target.split('/').reverse());
  }
  return [root, ...resolved].join('/');
}
