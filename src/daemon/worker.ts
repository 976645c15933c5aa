/**
 * The mounts of one worker: each is an image's disk on the FUSE server, the kernel's EROFS on that,
 * and, if writable, an overlay on top. Built bottom up, taken down top down, and a build that fails
 * or is given up half-way takes down what it has built.
 *
 * Invariant: the table has a record of every mount before it begins and until it is gone.
 */

import { mkdir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError, errnoOf, ImgstoreError, ioError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { deleteContainer } from '../container/runtime.ts';
import { bindMount, listMounts, mountErofs, mountOverlay, unmount } from '../fuse/mount.ts';
import type { FuseServer } from '../fuse/server.ts';
import { LazyDisk } from '../image/lazy-disk.ts';
import { formatImageName, parseImageName } from '../recipe/name.ts';
import { sealedSizes } from '../recipe/recipe.ts';
import { FailureLog } from './failure-log.ts';
import type { MountRecord, MountTable } from './mount-table.ts';
import type { MountInfo, MountRequest } from './protocol.ts';
import type { Stores } from './stores.ts';

export interface WorkerOptions {
  table: MountTable;
  stores: Stores;
  fuse: FuseServer;
  log: Log;
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
}

export class Worker {
  readonly #options: WorkerOptions;
  readonly #mounts = new Map<string, Mount>();
  /** Folders on which a mount is being made. */
  readonly #reserved = new Set<string>();

  constructor(options: WorkerOptions) {
    this.#options = options;
  }

  get busy(): boolean {
    return this.#mounts.size > 0 || this.#reserved.size > 0;
  }

  list(): MountInfo[] {
    return [...this.#mounts.values()].map(mount => this.#info(mount));
  }

  /**
   * Errors: NOT_FOUND no such name or folder, BUSY something is mounted there, KEY, CORRUPT, IO;
   * whatever they are, nothing is left behind.
   */
  async mount(request: MountRequest, signal: AbortSignal): Promise<MountInfo> {
    const started = performance.now();
    const { table } = this.#options;
    const serial = await table.newSerial();
    const id = `m${serial}`;
    const dir =
      request.dir === undefined
        ? join(table.folder(id), 'rootfs')
        : await this.#checkedFolder(request.dir);
    this.#reserved.add(dir);
    try {
      const record: MountRecord = {
        format: 1,
        id,
        serial,
        name: formatImageName(parseImageName(request.name)),
        store: request.store,
        recipe: '',
        dir,
        as: request.as,
        rw: request.rw,
        state: 'mounting',
        ...(request.containerRuntime === undefined
          ? {}
          : { containerRuntime: request.containerRuntime }),
      };
      const mount = await this.#build(record, request.dir === undefined, signal);
      mount.mountMs = performance.now() - started;
      this.#mounts.set(id, mount);
      return this.#info(mount);
    } finally {
      this.#reserved.delete(dir);
    }
  }

  /** Errors: NOT_FOUND if it is not ours, BUSY if it is in use; then it stays as it was. */
  async unmount(dir: string, options: { force?: boolean } = {}): Promise<void> {
    const mount = [...this.#mounts.values()].find(({ record }) => record.dir === dir);
    if (mount === undefined) {
      throw new ImgstoreError(
        'NOT_FOUND',
        `Cannot unmount ${dir}: imgstore mounted nothing there`,
        {
          hint: 'imgstore mounts shows what is mounted.',
        },
      );
    }
    mount.leaving ??= this.#leave(mount, options.force === true).finally(() => {
      mount.leaving = undefined;
    });
    await mount.leaving;
  }

  async #build(record: MountRecord, ownFolder: boolean, signal: AbortSignal): Promise<Mount> {
    const { stores, table, fuse, log } = this.#options;
    const store = await stores.get(record.store);
    const name = parseImageName(record.name);
    const { recipe, recipeId } = await store.catalog.open(name, { signal });
    record.recipe = recipeId;
    if (record.as === 'erofs' && recipe.details.kind === 'disk') {
      throw new ImgstoreError('UNSUPPORTED', `Cannot mount ${record.name}: it is a raw disk`, {
        hint: 'Use --as disk, and what knows its format on DIR/disk.',
      });
    }
    const failures = new FailureLog(record.name, recipe, store.reader, log);
    const disk = new LazyDisk(recipe, store.reader, {
      onFailure: failed => failures.report(failed),
    });
    try {
      await table.write(record);
      signal.throwIfAborted();
      fuse.add(record.id, record.serial, disk);
      if (ownFolder) await mkdir(record.dir);
      await this.#mountLayers(record, signal);
      record.state = 'mounted';
      await table.write(record);
      signal.throwIfAborted();
    } catch (error) {
      await this.#takeDown(record, true).catch(reason => this.#warn(record, reason));
      throw error;
    }
    const sizes = sealedSizes(recipe);
    let storedBytes = 0;
    for (const sizeBytes of sizes.values()) storedBytes += sizeBytes;
    return {
      record,
      disk,
      configText: recipe.details.configText ?? null,
      chunks: sizes.size,
      storedBytes,
      mountMs: 0,
      leaving: undefined,
    };
  }

  async #mountLayers(record: MountRecord, signal: AbortSignal): Promise<void> {
    const { fuse, table, log } = this.#options;
    if (record.as === 'disk') {
      const served = join(fuse.mountPoint, record.id);
      await bindMount({ from: served, to: record.dir, readOnly: true });
      return;
    }
    const folder = table.folder(record.id);
    const lower = join(folder, 'lower');
    if (record.rw) await mkdir(lower);
    const directory = record.rw ? lower : record.dir;
    const { via } = await mountErofs({ diskPath: fuse.path(record.id), directory, log });
    record.via = via;
    if (!record.rw) return;
    signal.throwIfAborted();
    const [upper, work] = [join(folder, 'upper'), join(folder, 'work')];
    await Promise.all([mkdir(upper), mkdir(work)]);
    await mountOverlay({ lower, upper, work, directory: record.dir });
  }

  async #leave(mount: Mount, force: boolean): Promise<void> {
    const { record } = mount;
    await this.#takeDown(record, force);
    this.#mounts.delete(record.id);
  }

  /** Takes down what there is of a mount; what is not there is no error. */
  async #takeDown(record: MountRecord, force: boolean): Promise<void> {
    const { fuse, table } = this.#options;
    const folder = table.folder(record.id);
    if (record.containerRuntime !== undefined) {
      const stateDirectory = join(folder, 'container');
      await deleteContainer({ runtime: record.containerRuntime, stateDirectory, id: record.id });
    }
    const ours = [record.dir, join(folder, 'lower')];
    for (const directory of ours) await this.#unmountIfThere(directory, force);
    await fuse.remove(record.id);
    const left = (await listMounts()).filter(m => m.mountPoint.startsWith(`${folder}/`));
    if (left.length > 0) throw new ImgstoreError('BUSY', `Cannot remove ${folder}: it has mounts`);
    await table.remove(record.id);
  }

  async #unmountIfThere(directory: string, force: boolean): Promise<void> {
    const there = (await listMounts()).some(mount => mount.mountPoint === directory);
    if (!there) return;
    await unmount(directory, { detach: force });
  }

  async #checkedFolder(dir: string): Promise<string> {
    const what = `Cannot mount on ${dir}`;
    try {
      const path = await realpath(dir);
      if (!(await stat(path)).isDirectory()) {
        throw new ImgstoreError('IO', `${what}: it is not a directory`, { hint: 'Name a folder.' });
      }
      const mounted = (await listMounts()).some(mount => mount.mountPoint === path);
      if (mounted || this.#reserved.has(path)) {
        throw new ImgstoreError('BUSY', `${what}: something is mounted there already`, {
          hint: 'Unmount it first, or name another folder.',
        });
      }
      return path;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') {
        throw new ImgstoreError('NOT_FOUND', `${what}: no such folder`, { hint: 'Make it first.' });
      }
      throw ioError(what, error);
    }
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
