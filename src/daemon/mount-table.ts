/**
 * What is mounted, on disk: one folder a mount, `run/mounts/ID/`, with a record in `mount.json` and
 * whatever the mount needs beside it. A record is written before the first mount call and removed
 * after the last unmount, so whoever starts next knows everything that may have been left behind,
 * and has what it takes to serve a live mount on: the id and serial under which the kernel knows
 * the disk, and the name in the store that it came from.
 */

import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, ioError } from '../base/errors.ts';
import type { MountVia } from '../fuse/mount.ts';

export type MountAs = 'erofs' | 'disk';

export interface MountRecord {
  format: 1;
  /** `m` and the serial; also the disk's name on the FUSE server. */
  id: string;
  /** Under which the kernel knows the disk: never used again while the FUSE connection lives. */
  serial: number;
  /** As the user gave it. */
  name: string;
  store: string;
  recipe: string;
  /** Absolute; where the user sees it. */
  dir: string;
  as: MountAs;
  rw: boolean;
  state: 'mounting' | 'mounted';
  via?: MountVia;
  /** `MAJOR:MINOR` of what is at `dir`, once it is mounted. */
  device?: string;
  /** Set for `run`: what to end before the mount can go. */
  containerRuntime?: string;
}

const idPattern = /^m[0-9]{1,15}$/;
const recordName = 'mount.json';

/** The table's folder in a home's run folder. */
export function mountTableFolder(runDirectory: string): string {
  return join(runDirectory, 'mounts');
}

export class MountTable {
  readonly directory: string;
  #lastSerial = 0;
  #serialWritten: Promise<void> = Promise.resolve();

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async open(directory: string): Promise<MountTable> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const table = new MountTable(directory);
    const counted = await readFile(table.#serialFile, 'utf8').catch(() => '0');
    const used = (await table.records()).map(record => record.serial);
    table.#lastSerial = Math.max(Number.parseInt(counted, 10) || 0, ...used);
    return table;
  }

  /** A serial that was never given before, by this daemon or those before it. */
  async newSerial(): Promise<number> {
    const serial = ++this.#lastSerial;
    // One after the other: the file must not go back to a lower one.
    const written = this.#serialWritten.then(() => this.#writeSerial(serial));
    this.#serialWritten = written.catch(() => {});
    await written;
    return serial;
  }

  async #writeSerial(serial: number): Promise<void> {
    try {
      await writeFile(`${this.#serialFile}.new`, `${serial}\n`, { mode: 0o600 });
      await rename(`${this.#serialFile}.new`, this.#serialFile);
    } catch (error) {
      throw ioError(`Cannot write ${this.#serialFile}`, error);
    }
  }

  get #serialFile(): string {
    return join(this.directory, 'serial');
  }

  folder(id: string): string {
    return join(this.directory, id);
  }

  /** Creates or replaces the record, atomically. */
  async write(record: MountRecord): Promise<void> {
    const folder = this.folder(record.id);
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      const temporary = join(folder, `${recordName}.new`);
      await writeFile(temporary, `${JSON.stringify(record)}\n`, { mode: 0o600 });
      await rename(temporary, join(folder, recordName));
    } catch (error) {
      throw ioError(`Cannot write the mount table at ${folder}`, error);
    }
  }

  /** Forgets the mount and removes its folder with all that is in it; it holds no mounts any more. */
  async remove(id: string): Promise<void> {
    try {
      await rm(this.folder(id), { recursive: true, force: true });
    } catch (error) {
      throw ioError(`Cannot remove ${this.folder(id)}`, error);
    }
  }

  /** Removes what was left of mounts that never began, or that were all but forgotten. */
  async removeRecordless(): Promise<void> {
    for (const name of await readdir(this.directory)) {
      const isFolder = idPattern.test(name);
      if (!isFolder && !/^serial\.[0-9]+$/.test(name)) continue;
      if (isFolder && (await this.#read(name)) !== undefined) continue;
      await rm(join(this.directory, name), { recursive: true, force: true });
    }
  }

  /** Every record that is whole; a folder without one was never mounted. */
  async records(): Promise<MountRecord[]> {
    const records: MountRecord[] = [];
    for (const id of await readdir(this.directory)) {
      const record = await this.#read(id);
      if (record !== undefined) records.push(record);
    }
    return records.sort((a, b) => a.serial - b.serial);
  }

  async #read(id: string): Promise<MountRecord | undefined> {
    if (!idPattern.test(id)) return undefined;
    try {
      const text = await readFile(join(this.folder(id), recordName), 'utf8');
      const record = JSON.parse(text) as MountRecord;
      return record.format === 1 && record.id === id ? record : undefined;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT' || error instanceof SyntaxError) return undefined;
      throw ioError(`Cannot read the mount table at ${this.folder(id)}`, error);
    }
  }
}

/** What a daemon of this home has mounted, or left behind; asked without a daemon. */
export async function recordedMounts(runDirectory: string): Promise<MountRecord[]> {
  const folder = mountTableFolder(runDirectory);
  return existsSync(folder) ? (await MountTable.open(folder)).records() : [];
}
