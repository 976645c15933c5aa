/**
 * A store in a folder: the object of key `a/b` is the file `a/b`. Layout and durability are described
 * in docs/format/store-layout.md.
 *
 * Invariants: a file under its key is whole and never changes; it was written and fsynced under
 * `tmp/` and then linked (if absent) or renamed (replace) into its place. Several processes may work
 * in one folder. The folder itself is made by the first put only: a store that vanishes while it is
 * in use (unmounted, moved away) is a fault, and is not made anew in its place.
 */

import { randomUUID } from 'node:crypto';
import type { Stats } from 'node:fs';
import { link, lstat, mkdir, rename, rmdir, unlink } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { errnoOf, ImgstoreError, ioError } from '../base/errors.ts';
import type { CopyingStore, CopyOptions } from './copying-store.ts';
import { listFolder, removeLeftovers } from './directory-walk.ts';
import { readObject, syncFolder, writeDurably } from './object-file.ts';
import { checkKeyPrefix, checkObjectKey } from './object-key.ts';
import type {
  GetObjectOptions,
  ObjectStat,
  ObjectStore,
  PutOptions,
  PutOutcome,
} from './object-store.ts';

/** The first part of a key that no object may have: files that are being written. */
export const temporaryFolderName = 'tmp';

/** Somebody may remove a folder that they emptied, between our mkdir and our link. */
const publishAttemptsMax = 8;

export class DirectoryStore implements ObjectStore, CopyingStore {
  readonly location: string;
  readonly #folder: string;
  readonly #temporaryFolder: string;
  readonly #now: () => number;
  /** Folders whose own entry, and those of all above them, this process has made durable. */
  readonly #anchored = new Set<string>();
  readonly #writer = randomUUID();
  #written = 0;
  #prepared: Promise<void> | undefined;

  constructor(folder: string, options: { now?: () => number } = {}) {
    this.#folder = resolve(folder);
    this.location = this.#folder;
    this.#temporaryFolder = join(this.#folder, temporaryFolderName);
    this.#now = options.now ?? Date.now;
  }

  async get(key: string, { sizeMaxBytes, signal }: GetObjectOptions): Promise<Buffer | undefined> {
    const path = this.#pathOf(key);
    signal?.throwIfAborted();
    try {
      return await readObject(path, sizeMaxBytes);
    } catch (error) {
      if (isAbsence(error)) return undefined;
      throw this.#fault('read', key, error);
    }
  }

  async stat(key: string, options: { signal?: AbortSignal } = {}): Promise<ObjectStat | undefined> {
    const path = this.#pathOf(key);
    options.signal?.throwIfAborted();
    try {
      const stats = await lstat(path);
      return stats.isFile() ? objectStat(key, stats) : undefined;
    } catch (error) {
      if (isAbsence(error)) return undefined;
      throw this.#fault('look up', key, error);
    }
  }

  async put(key: string, bytes: Uint8Array, options: PutOptions): Promise<PutOutcome> {
    const path = this.#pathOf(key);
    options.signal?.throwIfAborted();
    try {
      await this.#prepare();
      // Writing what is there costs two syncs; looking first costs 2 % of that.
      if (options.ifAbsent && (await exists(path))) return await this.#settle(path, 'exists');
      return await this.#write(path, bytes, options);
    } catch (error) {
      if (error === options.signal?.reason) throw error;
      throw this.#fault('write', key, error);
    }
  }

  /** By a hard link: objects never change in place. */
  async copy(
    from: string,
    to: string,
    { ifAbsent = false, signal }: CopyOptions = {},
  ): Promise<boolean> {
    const source = this.#pathOf(from);
    const target = this.#pathOf(to);
    signal?.throwIfAborted();
    try {
      await this.#prepare();
      if (!(await exists(source))) return false;
      if ((await this.#publish(source, target, true)) === 'exists' && !ifAbsent) {
        const temporary = this.#temporaryPath();
        await link(source, temporary);
        await this.#publish(temporary, target, false);
        // rename(2) does nothing where both names are the same file already.
        await unlink(temporary).catch(() => {});
      }
      await this.#settle(target, 'created');
      return true;
    } catch (error) {
      if (isAbsence(error) && !(await exists(source))) return false;
      throw this.#fault('copy', from, error);
    }
  }

  async *list(
    prefix: string,
    options: { signal?: AbortSignal } = {},
  ): AsyncGenerator<ObjectStat, void, undefined> {
    checkKeyPrefix(prefix);
    if (prefix !== '') this.#pathOf(prefix);
    options.signal?.throwIfAborted();
    try {
      for await (const { key, stats } of listFolder(this.#folder, prefix, temporaryFolderName)) {
        options.signal?.throwIfAborted();
        yield objectStat(key, stats);
      }
    } catch (error) {
      if (error === options.signal?.reason) throw error;
      throw this.#fault('list', prefix === '' ? 'everything' : prefix, error);
    }
  }

  async remove(key: string, options: { signal?: AbortSignal } = {}): Promise<void> {
    const path = this.#pathOf(key);
    options.signal?.throwIfAborted();
    try {
      await unlink(path);
      await syncFolder(await this.#prune(dirname(path)));
    } catch (error) {
      // EISDIR: a folder that other keys pass through is no object.
      if (isAbsence(error) || errnoOf(error) === 'EISDIR') return;
      throw this.#fault('remove', key, error);
    }
  }

  #pathOf(key: string): string {
    checkObjectKey(key);
    if (key.split('/', 1)[0] === temporaryFolderName) {
      throw new ImgstoreError(
        'USAGE',
        `Cannot use ${key} as a key: tmp/ is for files being written`,
      );
    }
    return join(this.#folder, key);
  }

  /** Once a process: the folder and tmp/ are there, and free of what killed writers left. */
  async #prepare(): Promise<void> {
    this.#prepared ??= this.#createFolders();
    try {
      await this.#prepared;
    } catch (error) {
      this.#prepared = undefined;
      throw error;
    }
  }

  async #createFolders(): Promise<void> {
    const first = await mkdir(this.#temporaryFolder, { recursive: true });
    if (first !== undefined) {
      for (let made = this.#temporaryFolder; ; made = dirname(made)) {
        await syncFolder(dirname(made));
        if (made === first) break;
      }
    }
    await removeLeftovers(this.#temporaryFolder, this.#now());
  }

  async #write(path: string, bytes: Uint8Array, options: PutOptions): Promise<PutOutcome> {
    const temporary = this.#temporaryPath();
    let outcome: PutOutcome | undefined;
    try {
      await writeDurably(temporary, bytes);
      options.signal?.throwIfAborted();
      outcome = await this.#publish(temporary, path, options.ifAbsent);
    } finally {
      const renamed = outcome === 'created' && !options.ifAbsent;
      // Nothing depends on it being gone: what stays is removed after a day.
      if (!renamed) await unlink(temporary).catch(() => {});
    }
    return this.#settle(path, outcome);
  }

  #temporaryPath(): string {
    return join(this.#temporaryFolder, `${this.#writer}-${this.#written++}`);
  }

  async #publish(temporary: string, path: string, ifAbsent: boolean): Promise<PutOutcome> {
    for (let attempt = 1; ; attempt++) {
      try {
        if (attempt > 1) await this.#makeFolders(dirname(path));
        await (ifAbsent ? link(temporary, path) : rename(temporary, path));
        return 'created';
      } catch (error) {
        const errno = errnoOf(error);
        if (ifAbsent && errno === 'EEXIST') return 'exists';
        if (errno !== 'ENOENT' || attempt === publishAttemptsMax) throw error;
      }
    }
  }

  /** Not the store's own: without it this is ENOENT, as it should be. */
  async #makeFolders(folder: string): Promise<void> {
    if (folder === this.#folder) return;
    await this.#makeFolders(dirname(folder));
    await mkdir(folder).catch((error: unknown) => {
      if (errnoOf(error) !== 'EEXIST') throw error;
    });
  }

  /**
   * Makes the entry of an object durable, and those of the folders above it: of these once a process,
   * even if they were there, since who made them may not have come to that yet.
   */
  async #settle(path: string, outcome: PutOutcome): Promise<PutOutcome> {
    const folder = dirname(path);
    await syncFolder(folder);
    for (let above = folder; above !== this.#folder; above = dirname(above)) {
      if (this.#anchored.has(above)) break;
      await syncFolder(dirname(above));
      this.#anchored.add(above);
    }
    return outcome;
  }

  /** Removes folders that became empty, upwards; returns the one that stays. */
  async #prune(folder: string): Promise<string> {
    for (let current = folder; current !== this.#folder; current = dirname(current)) {
      try {
        await rmdir(current);
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') return current;
      }
      this.#anchored.delete(current);
    }
    return this.#folder;
  }

  #fault(verb: string, key: string, error: unknown): unknown {
    const what = `Cannot ${verb} ${key} in the store ${this.location}`;
    const errno = errnoOf(error) ?? '';
    if (errno === 'EROFS') {
      const hint = 'Use a store that may be written, or mount it writable.';
      return new ImgstoreError('IO', `${what}: the store is read-only`, { hint, cause: error });
    }
    if (errno === 'ELOOP') {
      const hint = 'Remove the link; run imgstore verify.';
      return new ImgstoreError('IO', `${what}: it is a symbolic link`, { hint, cause: error });
    }
    if (goneErrnos.has(errno)) {
      const hint = 'Mount it again or correct the path, then run it again.';
      const message = `${what}: the store's folder is gone or does not answer (${errno})`;
      return new ImgstoreError('UNAVAILABLE', message, { hint, cause: error });
    }
    return ioError(what, error);
  }
}

/** Of a folder that vanished, a network file system without its server, a dead FUSE daemon. */
const goneErrnos: ReadonlySet<string> = new Set(
  'ENOENT ESTALE ENOTCONN ENODEV ETIMEDOUT EHOSTDOWN EREMOTEIO'.split(' '),
);

function isAbsence(error: unknown): boolean {
  const errno = errnoOf(error);
  return errno === 'ENOENT' || errno === 'ENOTDIR';
}

async function exists(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isFile();
  } catch (error) {
    if (isAbsence(error)) return false;
    throw error;
  }
}

function objectStat(key: string, stats: Stats): ObjectStat {
  return { key, sizeBytes: stats.size, modified: stats.mtime };
}
