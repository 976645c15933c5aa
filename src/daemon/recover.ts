/**
 * Clears what a daemon that was killed left behind: overlays, EROFS mounts, the FUSE mount whose
 * other end is gone, and the folders of its mounts. Only what the table or our own folder names is
 * touched.
 */

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { deleteContainer } from '../container/runtime.ts';
import { listMounts, unmount } from '../fuse/mount.ts';
import type { MountRecord, MountTable } from './mount-table.ts';

export async function recover(table: MountTable, fusePoint: string, log: Log): Promise<void> {
  for (const record of await table.records()) {
    try {
      await takeAway(record, table);
      log('warn', `${record.name} at ${record.dir} had lost its daemon and was unmounted`);
    } catch (error) {
      log('error', `Cannot take away the mount at ${record.dir}: ${describeError(error)}`);
    }
  }
  for (const mount of await listMounts()) {
    if (mount.mountPoint === fusePoint) await unmount(fusePoint, { detach: true });
  }
}

async function takeAway(record: MountRecord, table: MountTable): Promise<void> {
  const folder = table.folder(record.id);
  if (record.containerRuntime !== undefined) {
    const stateDirectory = join(folder, 'container');
    await deleteContainer({ runtime: record.containerRuntime, stateDirectory, id: record.id });
  }
  // Newest first: what is on top goes before what is below.
  for (const mount of (await listMounts()).reverse()) {
    const below = mount.mountPoint.startsWith(`${folder}/`);
    const shown = mount.mountPoint === record.dir && mount.type === typeOf(record);
    if (below || shown) await unmount(mount.mountPoint, { detach: true });
  }
  await rm(folder, { recursive: true, force: true });
}

/** The file system that the record's folder shows, if it is still the one that was mounted. */
function typeOf({ as, rw }: MountRecord): string {
  if (as === 'disk') return 'fuse.imgstore';
  return rw ? 'overlay' : 'erofs';
}
