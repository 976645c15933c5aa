/**
 * Memos as files of one folder, for this user alone. A file is renamed into place but not synced: one
 * that a loss of power has torn does not open. What was used longest ago goes when there are too many.
 */

import { randomUUID } from 'node:crypto';
import { closeSync, constants, fstatSync } from 'node:fs';
import { access, lstat, mkdir, open, readdir, rename, unlink, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, ioError } from '../../base/errors.ts';
import { openFile, readFully } from '../../base/file-io.ts';
import { layerMemoSizeMaxBytes, layerMemosMaxBytes, MiB } from '../../base/limits.ts';
import { removeLeftovers } from '../../store/directory-walk.ts';
import type { LayerMemory } from './layer-memory.ts';

const temporaryFolderName = 'tmp';
const readFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const namePattern = /^[0-9a-f]{64}$/;
/** With what sealing adds. */
const fileSizeMaxBytes = layerMemoSizeMaxBytes + MiB;

export class LayerFolder implements LayerMemory {
  readonly #folder: string;
  readonly #sizeMaxBytes: number;
  readonly #now: () => Date;

  constructor(
    folder: string,
    { now, sizeMaxBytes = layerMemosMaxBytes }: { now: () => Date; sizeMaxBytes?: number },
  ) {
    this.#folder = folder;
    this.#now = now;
    this.#sizeMaxBytes = sizeMaxBytes;
  }

  async has(name: string): Promise<boolean> {
    return access(this.#pathOf(name)).then(
      () => true,
      () => false,
    );
  }

  async read(name: string): Promise<Buffer | undefined> {
    const path = this.#pathOf(name);
    try {
      const bytes = await readAll(path);
      const now = this.#now();
      await utimes(path, now, now).catch(() => {}); // when it was last used
      return bytes;
    } catch (error) {
      if (errnoOf(error) === undefined) throw error;
      return undefined;
    }
  }

  async write(name: string, pieces: readonly Buffer[]): Promise<void> {
    const temporary = join(this.#folder, temporaryFolderName, randomUUID());
    try {
      await mkdir(join(this.#folder, temporaryFolderName), { recursive: true, mode: 0o700 });
      await this.#makeRoom(pieces.reduce((sum, piece) => sum + piece.length, 0));
      await writeAll(temporary, pieces);
      await rename(temporary, this.#pathOf(name));
    } catch (error) {
      await unlink(temporary).catch(() => {});
      throw ioError(`Cannot note a layer in ${this.#folder}`, error);
    }
  }

  /** Other pushes may be doing the same: what has gone already is no fault. */
  async #makeRoom(neededBytes: number): Promise<void> {
    await removeLeftovers(join(this.#folder, temporaryFolderName), this.#now().getTime());
    const files: { path: string; sizeBytes: number; usedMs: number }[] = [];
    for (const name of await readdir(this.#folder)) {
      if (!namePattern.test(name)) continue;
      const path = this.#pathOf(name);
      const stats = await lstat(path).catch(() => undefined);
      if (stats !== undefined) files.push({ path, sizeBytes: stats.size, usedMs: stats.mtimeMs });
    }
    let totalBytes = neededBytes + files.reduce((sum, file) => sum + file.sizeBytes, 0);
    files.sort((a, b) => a.usedMs - b.usedMs);
    for (const { path, sizeBytes } of files) {
      if (totalBytes <= this.#sizeMaxBytes) return;
      await unlink(path).catch(() => {});
      totalBytes -= sizeBytes;
    }
  }

  #pathOf(name: string): string {
    return join(this.#folder, name);
  }
}

/** Undefined if it is no file of a memo's size, or changes while it is read. */
async function readAll(path: string): Promise<Buffer | undefined> {
  const descriptor = await openFile(path, readFlags);
  try {
    const stats = fstatSync(descriptor);
    if (!stats.isFile() || stats.size > fileSizeMaxBytes) return undefined;
    const bytes = Buffer.allocUnsafeSlow(stats.size);
    return (await readFully(descriptor, bytes)) === bytes.length ? bytes : undefined;
  } finally {
    closeSync(descriptor);
  }
}

async function writeAll(path: string, pieces: readonly Buffer[]): Promise<void> {
  await using handle = await open(path, 'wx', 0o600);
  for (const piece of pieces) await handle.writeFile(piece);
}
