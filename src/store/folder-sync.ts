/**
 * Makes changes of folders durable: fsync of the folder, after the link, rename or unlink in it.
 *
 * One sync covers every change made before it starts, so those that ask while one is under way
 * share the next: eight writers in one folder cost two syncs, not eight.
 */

import { closeSync, constants } from 'node:fs';
import { errnoOf } from '../base/errors.ts';
import { openFile, syncFile } from '../base/file-io.ts';

interface Sync {
  done: Promise<void>;
  next: Promise<void> | undefined;
}

export class FolderSync {
  readonly #running = new Map<string, Sync>();
  readonly #syncNow: (folder: string) => Promise<void>;

  constructor(syncNow: (folder: string) => Promise<void> = syncFolder) {
    this.#syncNow = syncNow;
  }

  /** Resolves when every change made in `folder` before the call is durable. */
  sync(folder: string): Promise<void> {
    const running = this.#running.get(folder);
    if (running === undefined) return this.#start(folder);
    const again = () => this.#start(folder);
    running.next ??= running.done.then(again, again);
    return running.next;
  }

  #start(folder: string): Promise<void> {
    const sync: Sync = { done: this.#syncNow(folder), next: undefined };
    this.#running.set(folder, sync);
    const forget = () => {
      if (sync.next === undefined) this.#running.delete(folder);
    };
    // Registered before anybody's `next`, so it runs first and sees whether there is one.
    sync.done.then(forget, forget);
    return sync.done;
  }
}

async function syncFolder(folder: string): Promise<void> {
  let descriptor: number;
  try {
    descriptor = await openFile(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    // Somebody removed the folder, and so what was in it: nothing is left to make durable.
    if (errnoOf(error) === 'ENOENT') return;
    throw error;
  }
  try {
    await syncFile(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
