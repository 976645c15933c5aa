/**
 * The mounts of one worker: each is an image's disk on the FUSE server with the kernel's layers on
 * top. A build that fails or is given up half-way takes down what it has built.
 *
 * Invariants: the table has a record of every mount before it begins and until it is gone; a folder
 * has one mount of ours at most; a mount that cannot be taken down stays known, to be tried again.
 */

import { mkdir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describeError, errnoOf, ImgstoreError, ioError } from '../base/errors.ts';
import { Limiter } from '../base/limiter.ts';
import type { Log } from '../base/log.ts';
import { containerOf, deleteContainer } from '../container/runtime.ts';
import { listMounts } from '../fuse/mount.ts';
import type { FuseServer } from '../fuse/server.ts';
import { newReadCounters } from '../image/chunk-reader.ts';
import { LazyDisk } from '../image/lazy-disk.ts';
import type { TraceRead } from '../image/read-trace.ts';
import { formatImageName, type ImageReference, parseImageReference } from '../recipe/name.ts';
import { storedSize } from '../recipe/recipe.ts';
import { FailureLog } from './failure-log.ts';
import { mountLayers, unmountLayers } from './layers.ts';
import type { MountRecord, MountTable } from './mount-table.ts';
import type { MountFigures, MountInfo, MountRequest } from './protocol.ts';
import { type ReadFigures, readFigures, sumOf } from './read-figures.ts';
import type { Stores } from './stores.ts';

/**
 * Each holds a thread of libuv's pool until the reads behind it are answered, which takes others:
 * far below the pool's size, see start.ts.
 */
const mountCallsMax = 2;
/** When the one who held a mount is gone, nobody else will try again. */
const releaseWaitsMs = [0, 100, 1000, 5000, 30_000];

export interface WorkerOptions {
  table: MountTable;
  stores: Stores;
  fuse: FuseServer;
  traceReads?: ((mountId: string, imageName: string) => TraceRead) | undefined;
  log: Log;
}

interface BuildOptions {
  ownFolder: boolean;
  reference: ImageReference;
  keyId: string | undefined;
  signal: AbortSignal;
}

interface Mount {
  record: MountRecord;
  disk: LazyDisk;
  configText: string | null;
  chunks: number;
  storedBytes: number;
  mountMs: number;
  /** Set while it is being taken down: who asks again waits for the same. */
  leaving: Promise<void> | undefined;
  gone: PromiseWithResolvers<void>;
}

export class Worker {
  readonly #options: WorkerOptions;
  readonly #mounts = new Map<string, Mount>();
  /** Folders on which a mount is being made. */
  readonly #reserved = new Set<string>();
  readonly #building = new Set<Promise<Mount>>();
  readonly #mountCalls = new Limiter(mountCallsMax);
  readonly #ending = new AbortController();
  /** Of mounts that are gone. */
  #past = newReadCounters();

  constructor(options: WorkerOptions) {
    this.#options = options;
  }

  get busy(): boolean {
    return this.#mounts.size > 0 || this.#building.size > 0;
  }

  /** True from `close` on: nothing is mounted any more. */
  get closing(): boolean {
    return this.#ending.signal.aborted;
  }

  list(): MountInfo[] {
    return [...this.#mounts.values()].map(mount => this.#info(mount));
  }

  /** Of each mount, and of all that there have been. */
  figures(): { mounts: MountFigures[]; reads: ReadFigures } {
    const mounts = [...this.#mounts.values()];
    return {
      mounts: mounts.map(({ record: { id, name, dir }, disk }) => {
        return { id, name, dir, diskBytes: disk.sizeBytes, ...readFigures(disk.counters) };
      }),
      reads: readFigures(sumOf([this.#past, ...mounts.map(({ disk }) => disk.counters)])),
    };
  }

  /**
   * Errors: NOT_FOUND no such name or folder, BUSY something is mounted there, KEY, CORRUPT, IO,
   * UNAVAILABLE this worker ends; whatever they are, nothing is left behind.
   */
  async mount(request: MountRequest, signal: AbortSignal): Promise<MountInfo> {
    const ending = this.#ending.signal;
    ending.throwIfAborted();
    const building = this.#mount(request, AbortSignal.any([signal, ending]));
    this.#building.add(building);
    try {
      return this.#info(await building);
    } finally {
      this.#building.delete(building);
    }
  }

  /** Resolves when the mount is gone. */
  async whenGone(id: string): Promise<void> {
    await this.#mounts.get(id)?.gone.promise;
  }

  /**
   * Errors: NOT_FOUND if it is not ours, BUSY if it is in use; then it stays as it was. With `force`
   * it goes out of sight, and who uses it can read what the kernel has kept of it.
   */
  async unmount(dir: string, { force = false }: { force?: boolean } = {}): Promise<void> {
    const mount = this.#mountAt(dir);
    if (mount === undefined) {
      const message = `Cannot unmount ${dir}: imgstore mounted nothing there`;
      throw new ImgstoreError('NOT_FOUND', message, {
        hint: 'imgstore mounts shows what is mounted.',
      });
    }
    if (force) await mount.leaving?.catch(() => {}); // it may have been a try without force
    if (this.#mounts.has(mount.record.id)) await this.#leave(mount, force);
  }

  /** Unmounts by force and does not give up soon: for a mount whose holder is gone. */
  async release(id: string): Promise<void> {
    for (const waitMs of releaseWaitsMs) {
      await sleep(waitMs, undefined, { ref: false });
      const mount = this.#mounts.get(id);
      if (mount === undefined) return;
      try {
        return await this.unmount(mount.record.dir, { force: true });
      } catch (error) {
        this.#warn(mount.record, error);
      }
    }
  }

  /**
   * Takes no more mounts and unmounts those that there are, newest first. Errors: BUSY if there are
   * any and `force` is not set; then all is as it was. What cannot be unmounted is logged.
   */
  async close({ force }: { force: boolean }): Promise<void> {
    if (!force && this.busy) {
      const count = this.#mounts.size + this.#building.size;
      throw new ImgstoreError('BUSY', `Cannot stop the daemon: ${count} mounted`, {
        hint: 'Unmount them first (imgstore mounts), or use --force.',
      });
    }
    const hint = 'Run it again.';
    this.#ending.abort(
      new ImgstoreError('UNAVAILABLE', 'Cannot mount: the daemon is ending', { hint }),
    );
    await Promise.allSettled(this.#building);
    for (const { record } of [...this.#mounts.values()].reverse()) {
      await this.unmount(record.dir, { force: true }).catch(error => this.#warn(record, error));
    }
  }

  async #mount(request: MountRequest, signal: AbortSignal): Promise<Mount> {
    const started = performance.now();
    const { table } = this.#options;
    const reference = parseImageReference(request.name);
    const serial = await table.newSerial();
    const id = `m${serial}`;
    const ownFolder = request.dir === undefined;
    const dir = ownFolder ? join(table.folder(id), 'rootfs') : await this.#reserve(request.dir!);
    try {
      const { containerRuntime } = request;
      const record: MountRecord = {
        format: 1,
        id,
        serial,
        name: formatImageName(reference),
        store: request.store,
        recipe: '',
        dir,
        as: request.as,
        rw: request.rw,
        state: 'mounting',
        ...(containerRuntime === undefined ? {} : { containerRuntime }),
      };
      const { keyId } = request;
      const mount = await this.#build(record, { ownFolder, reference, keyId, signal });
      mount.mountMs = performance.now() - started;
      this.#mounts.set(id, mount);
      return mount;
    } finally {
      this.#reserved.delete(dir);
    }
  }

  async #build(
    record: MountRecord,
    { ownFolder, reference, keyId, signal }: BuildOptions,
  ): Promise<Mount> {
    const { stores, table, fuse, log } = this.#options;
    const store = await stores.get(record.store);
    const { recipe, recipeId } = await store.catalog
      .open(reference, { signal })
      .catch((error: unknown) => {
        throw keyId === undefined ? error : keyOfOtherEnvironment(error, keyId);
      });
    record.recipe = recipeId;
    if (record.as === 'erofs' && recipe.details.kind === 'disk') {
      throw new ImgstoreError('UNSUPPORTED', `Cannot mount ${record.name}: it is a raw disk`, {
        hint: 'Use --as disk, and what knows its format on DIR/disk.',
      });
    }
    const failures = new FailureLog(record.name, recipe, store.reader, log);
    const disk = new LazyDisk(recipe, store.reader, {
      onFailure: failed => failures.report(failed),
      trace: this.#options.traceReads?.(record.id, record.name),
    });
    // A program that starts looks up names one after the other: each would be a round trip.
    void disk.prefetch(Math.min(recipe.metadataSizeBytes, store.prefetchMaxBytes));
    const folder = table.folder(record.id);
    const mountCalls = this.#mountCalls;
    // The kernel waits for its reads, and whoever gave up a mount for the kernel.
    const giveUp = () => disk.abandon();
    signal.addEventListener('abort', giveUp, { once: true });
    try {
      await table.write(record);
      fuse.add(record.id, record.serial, disk);
      if (ownFolder) await mkdir(record.dir);
      await mountLayers(record, { folder, fuse, mountCalls, signal, log });
      record.state = 'mounted';
      await table.write(record);
      signal.throwIfAborted();
    } catch (error) {
      await this.#takeDown(record, disk, true).catch(reason => this.#warn(record, reason));
      this.#past = sumOf([this.#past, disk.counters]);
      throw failures.last === undefined ? error : unreadable(record, failures.last.error);
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
    return {
      record,
      disk,
      configText: recipe.details.configText ?? null,
      ...storedSize(recipe),
      mountMs: 0,
      leaving: undefined,
      gone: Promise.withResolvers(),
    };
  }

  #leave(mount: Mount, force: boolean): Promise<void> {
    mount.leaving ??= this.#takeDown(mount.record, mount.disk, force)
      .then(() => {
        this.#mounts.delete(mount.record.id);
        this.#past = sumOf([this.#past, mount.disk.counters]);
        mount.gone.resolve();
      })
      .finally(() => {
        mount.leaving = undefined;
      });
    return mount.leaving;
  }

  /** Takes down what there is of a mount; what is not there is no error. */
  async #takeDown(record: MountRecord, disk: LazyDisk, force: boolean): Promise<void> {
    const { fuse, table } = this.#options;
    const folder = table.folder(record.id);
    if (record.containerRuntime !== undefined) {
      await deleteContainer(containerOf(record.containerRuntime, folder));
    }
    // The kernel ends a file system only when its reads have an answer, and this process with it:
    // by force that must not wait for a store.
    if (force) disk.abandon();
    await unmountLayers(record, folder, { force });
    disk.abandon();
    await fuse.remove(record.id);
    await table.remove(record.id);
  }

  /** The folder as the kernel names it, kept from other mounts until it is deleted from #reserved. */
  async #reserve(dir: string): Promise<string> {
    const path = await checkedFolder(dir);
    // Ours, but somebody else has unmounted it: the rest of it goes first.
    if (this.#mountAt(path) !== undefined && !(await isMountPoint(path))) await this.unmount(path);
    const taken = await isMountPoint(path);
    if (taken || this.#reserved.has(path) || this.#mountAt(path) !== undefined) {
      throw new ImgstoreError(
        'BUSY',
        `Cannot mount on ${dir}: something is mounted there already`,
        {
          hint: 'Unmount it first, or name another folder.',
        },
      );
    }
    this.#reserved.add(path);
    return path;
  }

  #mountAt(dir: string): Mount | undefined {
    return [...this.#mounts.values()].find(({ record }) => record.dir === dir);
  }

  #warn(record: MountRecord, error: unknown): void {
    this.#options.log('error', `${record.name} at ${record.dir}: ${describeError(error)}`);
  }

  #info(mount: Mount): MountInfo {
    const { record, disk } = mount;
    const { counters } = disk;
    return {
      id: record.id,
      name: record.name,
      store: record.store,
      recipe: record.recipe,
      dir: record.dir,
      folder: this.#options.table.folder(record.id),
      as: record.as,
      rw: record.rw,
      via: record.via ?? null,
      configText: mount.configText,
      diskBytes: disk.sizeBytes,
      storedBytes: mount.storedBytes,
      reads: counters.reads,
      bytesRead: counters.bytesRead,
      readErrors: counters.readErrors,
      chunks: mount.chunks,
      chunksFetched: counters.chunksFetched,
      storedBytesFetched: counters.storedBytesFetched,
      hits: Object.fromEntries(counters.hits),
      mountMs: mount.mountMs,
    };
  }
}

/** An image needs the key of the user's environment: it is there, but not in the daemon's. */
function keyOfOtherEnvironment(error: unknown, keyId: string): unknown {
  const isNeeded = error instanceof ImgstoreError && error.code === 'KEY';
  if (!isNeeded || !error.message.includes(keyId)) return error;
  const hint =
    'The daemon was started without your IMGSTORE_KEY: end it (imgstore daemon stop), then run it again.';
  return new ImgstoreError('KEY', error.message, { hint, cause: error });
}

async function isMountPoint(path: string): Promise<boolean> {
  return (await listMounts()).some(({ mountPoint }) => mountPoint === path);
}

async function checkedFolder(dir: string): Promise<string> {
  const what = `Cannot mount on ${dir}`;
  try {
    const path = await realpath(dir);
    if ((await stat(path)).isDirectory()) return path;
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw ioError(what, error);
    throw new ImgstoreError('NOT_FOUND', `${what}: no such folder`, { hint: 'Make it first.' });
  }
  throw new ImgstoreError('IO', `${what}: it is not a directory`, { hint: 'Name a folder.' });
}

/** The kernel only says that it could not read; this says what. */
function unreadable({ name, dir }: MountRecord, cause: unknown): ImgstoreError {
  const code = cause instanceof ImgstoreError ? cause.code : 'IO';
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new ImgstoreError(code, `Cannot mount ${name} on ${dir}: ${reason}`, {
    hint: `imgstore verify ${name} shows what is damaged; pushing it with --force mends it`,
    cause,
  });
}
