/** `PATH[:NAME]`, as `oci:` and `docker-archive:` take it, where both parts may contain colons. */

import { stat } from 'node:fs/promises';
import { ImgstoreError, ioError } from '../../base/errors.ts';

export interface PathReference {
  path: string;
  name: string | undefined;
}

/**
 * Splits at the first colon whose left side is there, which is where skopeo splits whenever it
 * takes the reference at all; at none if only the whole is there. Undefined if nothing is.
 */
export async function splitPathReference(
  details: string,
  isThere: (path: string) => Promise<boolean>,
): Promise<PathReference | undefined> {
  for (let at = details.indexOf(':'); at !== -1; at = details.indexOf(':', at + 1)) {
    const path = details.slice(0, at);
    if (path === '' || !(await isThere(path))) continue;
    const name = details.slice(at + 1);
    return { path, name: name === '' ? undefined : name };
  }
  return details !== '' && (await isThere(details))
    ? { path: details, name: undefined }
    : undefined;
}

/** Why nothing is there: `isDirectory` of what the user most likely meant, or an error. */
export async function nearestPath(
  reference: string,
  details: string,
): Promise<{ path: string; isDirectory: boolean }> {
  let failure: unknown;
  for (const path of [details, details.slice(0, Math.max(0, details.indexOf(':')))]) {
    if (path === '') continue;
    try {
      return { path, isDirectory: (await stat(path)).isDirectory() };
    } catch (error) {
      failure = ioError(`Cannot open ${reference}`, error);
    }
  }
  if (failure !== undefined) throw failure;
  throw new ImgstoreError('USAGE', `Cannot open ${reference}: it names no path`, {
    hint: 'Write oci:DIR[:TAG] or docker-archive:FILE[:REF].',
  });
}
