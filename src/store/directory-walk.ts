/** What lies in a store's folder: the objects, and the leftovers of killed writers. */

import type { Stats } from 'node:fs';
import { lstat, opendir, readdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../base/errors.ts';
import { leftoverAgeMinMs, objectKeyLengthMaxBytes } from '../base/limits.ts';

/** Enough to keep the file system busy, few enough that reads of other tasks get through. */
const statsAtOnceMax = 16;

export interface ListedFile {
  key: string;
  stats: Stats;
}

/**
 * Every regular file below `prefix`, a folder after the other, in memory no more than the folders
 * still to visit. Links are not followed; what vanishes meanwhile is left out; folders too deep for
 * any key are not entered.
 */
export async function* listFolder(
  base: string,
  prefix: string,
  except: string,
): AsyncGenerator<ListedFile, void, undefined> {
  const folders = [prefix];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    let batch: string[] = [];
    for await (const entry of entriesOf(join(base, folder))) {
      const key = folder === '' ? entry.name : `${folder}/${entry.name}`;
      if (key === except || key.length > objectKeyLengthMaxBytes) continue;
      if (entry.isDirectory()) folders.push(key);
      else batch.push(key);
      if (batch.length === statsAtOnceMax) {
        yield* await filesOf(base, batch);
        batch = [];
      }
    }
    yield* await filesOf(base, batch);
  }
}

async function* entriesOf(folder: string) {
  try {
    yield* await opendir(folder, { bufferSize: 256 });
  } catch (error) {
    const errno = errnoOf(error);
    if (errno !== 'ENOENT' && errno !== 'ENOTDIR') throw error;
  }
}

async function filesOf(base: string, keys: string[]): Promise<ListedFile[]> {
  const found = await Promise.all(
    keys.map(async key => {
      try {
        const stats = await lstat(join(base, key));
        return stats.isFile() ? [{ key, stats }] : [];
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') return [];
        throw error;
      }
    }),
  );
  return found.flat();
}

/** Removes temporary files without a writer. It is housekeeping: no failure of it is a fault. */
export async function removeLeftovers(folder: string, nowMs: number): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  for (const name of names) {
    const path = join(folder, name);
    const stats = await lstat(path).catch(() => undefined);
    if (stats?.isFile() !== true || nowMs - stats.mtimeMs < leftoverAgeMinMs) continue;
    await unlink(path).catch(() => {});
  }
}
