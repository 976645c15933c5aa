/** The states of the archive that images are built from: each is fetched once, and kept for all. */

import { mkdirSync, mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type DebianArchive, openArchive } from './debian.ts';
import type { ArchiveDefinition } from './definition.ts';

export class Archives implements AsyncDisposable {
  readonly #cacheDir: string;
  #dir: string | undefined;
  readonly #opened = new Map<string, Promise<DebianArchive>>();

  constructor(cacheDir: string) {
    this.#cacheDir = cacheDir;
  }

  /** Removes the lists and packages. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#dir !== undefined) await rm(this.#dir, { recursive: true });
  }

  open(definition: ArchiveDefinition): Promise<DebianArchive> {
    const key = JSON.stringify(definition);
    let archive = this.#opened.get(key);
    if (archive === undefined) {
      const dir = join(this.#folder(), String(this.#opened.size));
      archive = openArchive(dir, join(this.#folder(), 'packages'), definition);
      this.#opened.set(key, archive);
    }
    return archive;
  }

  #folder(): string {
    if (this.#dir === undefined) {
      mkdirSync(this.#cacheDir, { recursive: true });
      this.#dir = mkdtempSync(join(this.#cacheDir, 'archives-'));
    }
    return this.#dir;
  }
}
