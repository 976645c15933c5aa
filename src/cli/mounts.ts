/** `mounts`: what is mounted, and what it has cost so far. */

import { DaemonClient } from '../daemon/client.ts';
import type { MountInfo } from '../daemon/protocol.ts';
import type { Command, CommandResult } from './command.ts';
import { formatBytes, formatShare, formatTable } from './format.ts';
import { publicInfo } from './mount-info.ts';

export const command: Command = {
  usage: '',
  summary: 'list what is mounted and what it fetched',
  description: `
Lists every mount of this home's daemon: how large the disk is, how much of it programs have read,
and how much was fetched from the store for that.`,
  options: {},
  positionals: { min: 0, max: 0 },

  async run({ settings }): Promise<CommandResult> {
    const client = new DaemonClient(settings);
    const answer = ((await client.callIfRunning('GET', '/mounts')) ?? []) as MountInfo[];
    const mounts = answer.map(publicInfo);
    const rows = mounts.map(mount => [
      mount.name,
      mount.dir,
      formatBytes(mount.diskBytes),
      formatBytes(mount.bytesRead),
      `${formatBytes(mount.storedBytesFetched)} (${formatShare(mount.storedBytesFetched, mount.storedBytes)})`,
      Object.entries(mount.hits)
        .map(([tier, hits]) => `${tier} ${hits}`)
        .join(', '),
    ]);
    const header = ['NAME', 'DIR', 'DISK', 'READ', 'FETCHED', 'HITS'];
    return { data: mounts, text: rows.length === 0 ? '' : formatTable(header, rows) };
  },
};
