/**
 * How far the kernel reads ahead on a mount: a file in sysfs per "backing device". The defaults of
 * 128 KiB make a sequential reader wait for every eighth of a MiB.
 */

import { readdir, writeFile } from 'node:fs/promises';
import { describeError } from '../base/errors.ts';
import { KiB } from '../base/limits.ts';
import type { Log } from '../base/log.ts';

const folder = '/sys/class/bdi';

/** `device` as the mount table names it (`0:45`), or a name such as `erofs-3`. */
export async function setReadAhead(device: string, bytes: number, log: Log): Promise<void> {
  try {
    await writeFile(`${folder}/${device}/read_ahead_kb`, String(bytes / KiB));
  } catch (error) {
    log(
      'warn',
      `Cannot set the read-ahead of ${device}, reads are slower: ${describeError(error)}`,
    );
  }
}

/**
 * Mounts of EROFS from a file have backing devices `erofs-1`, `erofs-2`, … and nothing tells which
 * is whose: a mount's own is one that was not there before.
 */
export async function erofsDevices(): Promise<Set<string>> {
  const names = await readdir(folder).catch(() => []);
  return new Set(names.filter(name => name.startsWith('erofs-')));
}
