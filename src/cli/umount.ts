/** `umount`: the reverse of mount. */

import { realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { ImgstoreError } from '../base/errors.ts';
import type { Settings } from '../base/settings.ts';
import { DaemonClient } from '../daemon/client.ts';
import { recordedMounts } from '../daemon/mount-table.ts';
import type { Command, CommandResult } from './command.ts';

export const command: Command = {
  usage: 'DIR',
  summary: 'take a mount away, leaving nothing behind',
  description: `
Unmounts the image at DIR. What was written to it with --rw is gone. A mount that a program still
uses is left as it is.`,
  options: {},
  positionals: { min: 1, max: 1 },

  async run({ positionals, settings }): Promise<CommandResult> {
    const dir = await pathAsMounted(positionals[0]!);
    const client = new DaemonClient(settings);
    const call = `/mounts?dir=${encodeURIComponent(dir)}`;
    const answer = await client.callIfRunning('DELETE', call);
    if (answer === undefined) await takeAwayOrphan(dir, client, settings);
    return { data: { dir }, text: `${dir} unmounted` };
  },
};

/** The folder itself, not a symlink to it. Of a mount whose daemon is dead it cannot be asked. */
async function pathAsMounted(text: string): Promise<string> {
  const path = resolve(text);
  try {
    return await realpath(path);
  } catch {
    return realpath(dirname(path)).then(
      parent => join(parent, basename(path)),
      () => path,
    );
  }
}

/** Without a daemon there is only what a killed one left; the next takes it away as it starts. */
async function takeAwayOrphan(
  dir: string,
  client: DaemonClient,
  { runDirectory }: Settings,
): Promise<void> {
  const isThere = async () =>
    (await recordedMounts(runDirectory)).some(record => record.dir === dir);
  if (!(await isThere())) {
    throw new ImgstoreError('NOT_FOUND', `Cannot unmount ${dir}: imgstore mounted nothing there`, {
      hint: 'imgstore mounts shows what is mounted.',
    });
  }
  await client.start({ exitWhenIdle: true });
  if (!(await isThere())) return;
  throw new ImgstoreError('BUSY', `Cannot unmount ${dir}: its daemon is dead and it cannot go`, {
    hint: `See daemon.log in ${runDirectory}.`,
  });
}
