/**
 * Sealed chunks as files below one folder; docs/format/worker-cache.md describes the layout.
 *
 * Invariant: under a chunk's name there is a file as it was offered, or, after a loss of power, one
 * of another length or with zeros in it: files are renamed into place but not synced, since the
 * store has every chunk and GCM's tag finds the damage. Several processes may use one folder.
 */

import { randomUUID } from 'node:crypto';
import { closeSync, constants } from 'node:fs';
import { mkdir, rename, unlink, utimes, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { ChunkId } from '../base/digest.ts';
import { errnoOf } from '../base/errors.ts';
import { openFile, readFully } from '../base/file-io.ts';
import { sealedChunkSizeMaxBytes } from '../base/limits.ts';
import { listFolder, removeLeftovers } from '../store/directory-walk.ts';
import { chunkIdOfObjectKey, chunkObjectKey } from '../store/format.ts';

/** Another layout gets another name, and this one is left to whoever wrote it. */
const formatFolderName = 'v1';
const temporaryFolderName = 'tmp';
const readFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** Chunks lie in folders named for the first two digits of their ids. */
const chunkFolderNames = Array.from({ length: 256 }, (_, n) => n.toString(16).padStart(2, '0'));
/** A file's time ends in half a second if it is that of a use, else it is that of its writing. */
const usedMs = 500;

export interface CachedFile {
  id: ChunkId;
  sizeBytes: number;
  /** When it was last used, to the hour, or else when it was written. */
  modifiedMs: number;
  /** It was used after it was written. */
  used: boolean;
}

export class CacheFolder {
  readonly #folder: string;
  readonly #temporaryFolder: string;
  readonly #writer = randomUUID();
  #written = 0;

  constructor(folder: string) {
    this.#folder = resolve(folder, formatFolderName);
    this.#temporaryFolder = join(this.#folder, temporaryFolderName);
  }

  /** For this user only: which chunks are here tells which images ran. */
  async prepare(nowMs: number): Promise<void> {
    await mkdir(this.#temporaryFolder, { recursive: true, mode: 0o700 });
    await removeLeftovers(this.#temporaryFolder, nowMs);
  }

  /** The first `sizeBytes` of the chunk's file: one open, one read. */
  async read(id: ChunkId, sizeBytes: number): Promise<Buffer | 'absent' | 'short'> {
    let descriptor: number;
    try {
      descriptor = await openFile(this.#pathOf(id), readFlags);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return 'absent';
      throw error;
    }
    try {
      const sealed = Buffer.allocUnsafeSlow(sizeBytes);
      return (await readFully(descriptor, sealed)) === sizeBytes ? sealed : 'short';
    } finally {
      closeSync(descriptor);
    }
  }

  async write(id: ChunkId, sealed: Uint8Array): Promise<void> {
    const temporary = join(this.#temporaryFolder, `${this.#writer}-${this.#written++}`);
    const path = this.#pathOf(id);
    const write = async () => {
      await writeFile(temporary, sealed, { flag: 'w' });
      await rename(temporary, path);
    };
    try {
      await write().catch(async (error: unknown) => {
        if (errnoOf(error) !== 'ENOENT') throw error;
        // The first chunk in its folder; or somebody removed the cache, or mounted it anew.
        await mkdir(dirname(path), { recursive: true, mode: 0o700 });
        await mkdir(this.#temporaryFolder, { recursive: true, mode: 0o700 });
        await write();
      });
    } catch (error) {
      await unlink(temporary).catch(() => {});
      throw error;
    }
  }

  async remove(id: ChunkId): Promise<void> {
    await unlink(this.#pathOf(id)).catch((error: unknown) => {
      if (errnoOf(error) !== 'ENOENT') throw error;
    });
  }

  /** Notes that the chunk was used: the order in which entries go survives a restart. */
  async touch(id: ChunkId, nowMs: number): Promise<void> {
    const seconds = (Math.floor(nowMs / 1000) * 1000 + usedMs) / 1000;
    await utimes(this.#pathOf(id), seconds, seconds);
  }

  /**
   * Every chunk that is here. Files of impossible sizes are removed, foreign ones left alone. A folder
   * that cannot be read, or a file that cannot be removed, is told to `onFault` and passed over.
   */
  async *scan(onFault: (error: unknown) => void): AsyncGenerator<CachedFile, void, undefined> {
    for (const name of chunkFolderNames) {
      try {
        yield* this.#scanFolder(name, onFault);
      } catch (error) {
        onFault(error);
      }
    }
  }

  async *#scanFolder(
    name: string,
    onFault: (error: unknown) => void,
  ): AsyncGenerator<CachedFile, void, undefined> {
    for await (const { key, stats } of listFolder(this.#folder, name, temporaryFolderName)) {
      const id = chunkIdOfObjectKey(key);
      if (id === undefined) continue;
      const { size: sizeBytes, mtimeMs: modifiedMs } = stats;
      const possible = sizeBytes > 0 && sizeBytes <= sealedChunkSizeMaxBytes;
      if (possible) yield { id, sizeBytes, modifiedMs, used: modifiedMs % 1000 === usedMs };
      else await this.remove(id).catch(onFault);
    }
  }

  #pathOf(id: ChunkId): string {
    return join(this.#folder, chunkObjectKey(id));
  }
}
