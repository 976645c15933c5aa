/**
 * The kernel mounts of one record: EROFS on the served disk, an overlay on that if it is writable,
 * or the served folder itself. Built bottom up; taken away top down, as far as they are there, so
 * that what a failure, a killed daemon or umount(8) left of them goes in the same way.
 */

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { ImgstoreError } from '../base/errors.ts';
import type { Limiter } from '../base/limiter.ts';
import type { Log } from '../base/log.ts';
import {
  bindMount,
  listMounts,
  type MountEntry,
  mountErofs,
  mountOverlay,
  mountsBelow,
  unmount,
} from '../fuse/mount.ts';
import type { FuseServer } from '../fuse/server.ts';
import type { MountRecord } from './mount-table.ts';

export interface LayerOptions {
  /** The mount's own. */
  folder: string;
  fuse: FuseServer;
  /** A mount call waits on a thread for reads that this process answers with others. */
  mountCalls: Limiter;
  signal: AbortSignal;
  log: Log;
}

/** Mounts the record's layers and notes in it how the kernel knows the uppermost. */
export async function mountLayers(record: MountRecord, options: LayerOptions): Promise<void> {
  const { fuse, folder, signal } = options;
  if (record.as === 'disk') {
    await bindMount({ from: join(fuse.mountPoint, record.id), to: record.dir, readOnly: true });
  } else {
    const lower = join(folder, 'lower');
    if (record.rw) await mkdir(lower);
    await mountDisk(record, record.rw ? lower : record.dir, options);
    signal.throwIfAborted();
    if (record.rw) await mountWritable(record, lower, folder);
  }
  const entry = (await listMounts()).findLast(mount => isLayerOf(record, mount));
  if (entry !== undefined) record.device = entry.device;
}

async function mountDisk(record: MountRecord, directory: string, options: LayerOptions) {
  const { fuse, log, mountCalls, signal } = options;
  const { via } = await mountCalls.run(() => {
    signal.throwIfAborted();
    return mountErofs({ diskPath: fuse.path(record.id), directory, log });
  });
  record.via = via;
}

async function mountWritable({ dir }: MountRecord, lower: string, folder: string): Promise<void> {
  const [upper, work] = [join(folder, 'upper'), join(folder, 'work')];
  await Promise.all([mkdir(upper), mkdir(work)]);
  await mountOverlay({ lower, upper, work, directory: dir });
}

/**
 * Takes away what there is of the record's layers. Errors: BUSY, with the uppermost still there,
 * if it is in use; with `force` it goes out of sight then. What somebody else mounted on it stays,
 * whatever is asked: it is theirs.
 */
export async function unmountLayers(
  record: MountRecord,
  folder: string,
  { force }: { force: boolean },
): Promise<void> {
  for (;;) {
    const there = (await listMounts()).filter(mount => mount.mountPoint === record.dir);
    if (!there.some(mount => isLayerOf(record, mount))) break;
    if (!isLayerOf(record, there.at(-1)!)) {
      const message = `Cannot unmount ${record.dir}: something else is mounted on it`;
      throw new ImgstoreError('BUSY', message, { hint: 'Unmount that first.' });
    }
    await unmountOne(record.dir, force);
  }
  for (const { mountPoint } of await mountsBelow(folder)) await unmountOne(mountPoint, force);
}

/** Plainly if that goes, since then everything is gone when this resolves. */
async function unmountOne(directory: string, force: boolean): Promise<void> {
  try {
    await unmount(directory);
  } catch (error) {
    if (!(error instanceof ImgstoreError)) throw error;
    if (error.code === 'NOT_FOUND') return; // somebody else was quicker
    if (force) return unmount(directory, { detach: true });
    if (error.code !== 'BUSY') throw error;
    throw new ImgstoreError('BUSY', error.message, {
      hint: `Stop what uses it (fuser -vm ${directory} shows it) and run it again.`,
      cause: error,
    });
  }
}

/** True if this is what the record's folder shows, and not what came there since. */
function isLayerOf(record: MountRecord, mount: MountEntry): boolean {
  if (mount.mountPoint !== record.dir) return false;
  if (record.device !== undefined && record.device !== mount.device) return false;
  if (record.as === 'disk') return mount.type === 'fuse.imgstore' && mount.root === `/${record.id}`;
  return mount.type === (record.rw ? 'overlay' : 'erofs');
}
