/** The store that a setting names. */

import { stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { errnoOf, ImgstoreError, ioError } from '../base/errors.ts';
import { DirectoryStore } from './directory-store.ts';
import type { ObjectStore } from './object-store.ts';

const schemePattern = /^([a-z][a-z0-9+.-]*):/i;
const hint = 'Name a folder, or a URL like file:///srv/store.';

/**
 * `file:///…` or a path. The folder need not exist: the first put makes it. A scheme that is known
 * but not built in is UNSUPPORTED, any other is USAGE.
 */
export async function openStore(url: string): Promise<ObjectStore> {
  const scheme = schemePattern.exec(url)?.[1]?.toLowerCase();
  if (scheme === 's3') {
    throw new ImgstoreError(
      'UNSUPPORTED',
      'Cannot open an s3:// store: only folders are supported',
      {
        hint,
      },
    );
  }
  if (scheme !== undefined && scheme !== 'file') {
    throw new ImgstoreError('USAGE', `Cannot open a store by ${scheme}: not a known scheme`, {
      hint,
    });
  }
  const folder = scheme === 'file' ? pathOfUrl(url) : url;
  if (folder === '' || folder.includes('\0')) {
    throw new ImgstoreError('USAGE', 'Cannot open a store: the path is empty or no path', { hint });
  }
  await refuseFile(folder);
  return new DirectoryStore(folder);
}

function pathOfUrl(url: string): string {
  try {
    const parsed = new URL(url);
    if (!/^file:\/\//i.test(url) || parsed.search !== '' || parsed.hash !== '') throw new Error();
    return fileURLToPath(parsed);
  } catch {
    throw new ImgstoreError('USAGE', `Cannot open the store ${url}: not a valid file URL`, {
      hint,
    });
  }
}

async function refuseFile(folder: string): Promise<void> {
  const what = `Cannot open the store ${folder}`;
  const stats = await stat(folder).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw ioError(what, error);
  });
  if (stats?.isDirectory() !== false) return;
  throw new ImgstoreError('USAGE', `${what}: it is not a folder`, { hint });
}
