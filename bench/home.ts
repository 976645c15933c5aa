/**
 * A home of the bench's own, and imgstore in it as a user calls it. Everything is removed when it
 * is closed, mounts and daemon included.
 */

import { mkdirSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { MountInfo } from '../src/daemon/protocol.ts';
import { runChecked, TestHome } from '../test/support/processes.ts';
import { type Measured, measured } from './harness.ts';

const launcher = join(import.meta.dirname, '..', 'src', 'imgstore.mjs');

export interface PushData {
  contentBytes: number;
  diskBytes: number;
  storedBytes: number;
  newChunks: number;
  newStoredBytes: number;
  chunks: number;
  outcome: string;
}

export class BenchHome implements AsyncDisposable {
  readonly #home = new TestHome();
  #storesMade = 0;
  #elsewhere: { store: string; environment: Readonly<Record<string, string>> } | undefined;

  /** Removes what was mounted, stored and cached. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#home.close();
  }

  path(...parts: string[]): string {
    return this.#home.path(...parts);
  }

  get cacheFolder(): string {
    return join(this.#home.home, 'cache');
  }

  get keysFolder(): string {
    return join(this.#home.home, 'keys');
  }

  get storeFolder(): string {
    return join(this.#home.home, `store-${this.#storesMade}`);
  }

  configure(settings: object): void {
    mkdirSync(this.#home.home, { recursive: true });
    writeFileSync(join(this.#home.home, 'config.json'), JSON.stringify(settings));
  }

  makeFolder(name: string): string {
    const folder = this.path(name);
    mkdirSync(folder, { recursive: true });
    return folder;
  }

  #options() {
    const { store = this.storeFolder, environment } = this.#elsewhere ?? {};
    return { env: { IMGSTORE_STORE: store, ...environment }, timeoutMs: 600_000 };
  }

  measure(args: readonly string[], options: { pollMemory?: boolean } = {}): Promise<Measured> {
    const env = this.#home.environment(this.#options().env);
    return measured([process.execPath, launcher, ...args], { env, ...options });
  }

  async json(args: readonly string[]): Promise<unknown> {
    const { stdout } = await this.#home.runChecked([...args, '--json'], this.#options());
    return JSON.parse(stdout);
  }

  async push(source: string, name: string): Promise<PushData> {
    return (await this.json(['push', source, name])) as PushData;
  }

  async mount(name: string, dir: string, as: 'erofs' | 'disk' = 'erofs'): Promise<MountInfo> {
    return (await this.json(['mount', name, dir, '--as', as])) as MountInfo;
  }

  async mounted(dir: string): Promise<MountInfo> {
    const mounts = (await this.json(['mounts'])) as MountInfo[];
    return mounts.find(mount => mount.dir === dir)!;
  }

  async unmount(dir: string): Promise<void> {
    await this.#home.runChecked(['umount', dir], this.#options());
  }

  async daemonPid(): Promise<number> {
    return ((await this.json(['daemon', 'status'])) as { pid: number }).pid;
  }

  /** A daemon with nothing decoded in its memory. */
  async freshDaemon(): Promise<void> {
    await this.#home.runChecked(['daemon', 'stop', '--force'], this.#options());
    await this.#home.runChecked(['daemon', 'start'], this.#options());
  }

  /** The same with an empty cache. */
  async coldDaemon(): Promise<void> {
    await this.#home.runChecked(['daemon', 'stop', '--force'], this.#options());
    await rm(this.cacheFolder, { recursive: true, force: true });
    await this.#home.runChecked(['daemon', 'start'], this.#options());
  }

  /** From now on pushes go to an empty store. The others stay: ext4 slows down after removals. */
  newStore(): void {
    this.#storesMade++;
    this.#elsewhere = undefined;
  }

  /** From now on the store is this one, with these variables in the environment of commands. */
  useStore(store: string, environment: Readonly<Record<string, string>>): void {
    this.#elsewhere = { store, environment };
  }
}

const forget = `
import os, sys
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        file = os.open(os.path.join(folder, name), os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)
`;

/** The kernel keeps no page of the files below the folder: reads of them go to the disk. */
export async function dropPages(folder: string): Promise<void> {
  await runChecked('python3', ['-c', forget, folder], { timeoutMs: 600_000 });
}
