/** The store that a setting names. */

import { stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { errnoOf, ImgstoreError, ioError } from '../base/errors.ts';
import type { CopyingStore } from './copying-store.ts';
import { DirectoryStore } from './directory-store.ts';
import type { ObjectStore } from './object-store.ts';
import { Retrier, type RetryOptions } from './retry.ts';
import { retrying } from './retrying.ts';
import { parseS3Location } from './s3-location.ts';

const schemePattern = /^([a-z][a-z0-9+.-]*):/i;
const hint = 'Name a folder, or a URL like file:///srv/store or s3://BUCKET/PREFIX.';

/** `onTrouble`: a service fails again and again, and is still asked; one line. */
export type OpenStoreOptions = Pick<RetryOptions, 'onTrouble'>;

/**
 * `file:///…`, a path, or `s3://…` (see s3-location.ts). A folder need not exist: the first put makes
 * it; a bucket must. Nothing is asked of a service yet. Errors: USAGE for what is none of these.
 */
export async function openStore(
  url: string,
  options: OpenStoreOptions = {},
): Promise<ObjectStore & CopyingStore> {
  const scheme = schemePattern.exec(url)?.[1]?.toLowerCase();
  if (scheme === 's3') return openS3Store(url, options);
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

/** The AWS SDK takes 100 ms to load, which commands on a folder do not pay. */
async function openS3Store(
  url: string,
  options: OpenStoreOptions,
): Promise<ObjectStore & CopyingStore> {
  const { AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_S3 = AWS_ENDPOINT_URL } = process.env;
  const location = parseS3Location(url, AWS_ENDPOINT_URL_S3);
  const { S3Store } = await import('./s3-store.ts');
  return retrying(new S3Store(location), new Retrier(options));
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
