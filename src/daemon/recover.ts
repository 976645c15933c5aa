/**
 * Clears what a daemon that was killed left behind: containers, overlays, EROFS mounts, the FUSE
 * mount whose other end is gone, and the folders of its mounts. Only what the table or our own
 * folder names is touched.
 */

import { describeError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { containerOf, deleteContainer } from '../container/runtime.ts';
import { mountsBelow, unmount } from '../fuse/mount.ts';
import { unmountLayers } from './layers.ts';
import type { MountRecord, MountTable } from './mount-table.ts';

export async function recover(table: MountTable, fusePoint: string, log: Log): Promise<void> {
  for (const record of (await table.records()).reverse()) {
    try {
      await takeAway(record, table);
      log('warn', `${record.name} at ${record.dir} had lost its daemon and was unmounted`);
    } catch (error) {
      log('error', `Cannot take away the mount at ${record.dir}: ${describeError(error)}`);
    }
  }
  for (const folder of [table.directory, fusePoint]) {
    for (const { mountPoint } of await mountsBelow(folder)) {
      await unmount(mountPoint, { detach: true });
    }
  }
  await table.removeRecordless();
}

async function takeAway(record: MountRecord, table: MountTable): Promise<void> {
  const folder = table.folder(record.id);
  if (record.containerRuntime !== undefined) {
    await deleteContainer(containerOf(record.containerRuntime, folder));
  }
  await unmountLayers(record, folder, { force: true });
  await table.remove(record.id);
}
