/**
 * Mounts on top of the served disks.
 *
 * `mountErofs` and `mountOverlay` wait, on a thread of libuv's pool, for reads that the FUSE server
 * of this very process answers, with files and zstd on the same pool. Whoever calls them must keep
 * enough threads free: at most a few at once.
 */

import { release } from 'node:os';
import { errnoOf, ImgstoreError, ioError } from '../base/errors.ts';
import { type Log, silentLog } from '../base/log.ts';
import { readSizeMaxBytes } from './format.ts';
import { erofsFileDirectIoIsSound } from './kernel.ts';
import { attachLoop, detachLoop } from './loop-device.ts';
import { listMounts, type MountEntry, realPath } from './mount-table.ts';
import { erofsDevices, setReadAhead } from './read-ahead.ts';
import { mount, mountFlag, unmountNow } from './system-calls.ts';

export { listMounts, type MountEntry, mountsBelow } from './mount-table.ts';

/** `file`: the kernel reads the disk itself; `loop`: through a loop device. */
export type MountVia = 'file' | 'loop';

export interface ErofsMountOptions {
  diskPath: string;
  directory: string;
  /** `auto`, the default, takes the file if this kernel is sound and willing. */
  via?: 'auto' | MountVia;
  /** As uname(2) gives it, and this kernel's by default. */
  kernelRelease?: string;
  log?: Log;
}

/** mount(2) cuts what is longer than a page, zero byte included. */
const mountDataMaxBytes = 4095;

/** Device nodes of an image are nothing that a host should open. */
const erofsFlags = mountFlag.readOnly | mountFlag.noDevices;

/**
 * Mounts an EROFS disk, read-only. Errors: NOT_FOUND a path is missing, CORRUPT the kernel refuses
 * the disk, UNSUPPORTED there is no EROFS, BUSY, IO.
 */
export async function mountErofs(options: ErofsMountOptions): Promise<{ via: MountVia }> {
  const { diskPath, directory, via = 'auto', log = silentLog } = options;
  const what = `Cannot mount ${diskPath} on ${directory}`;
  const isSound = erofsFileDirectIoIsSound(options.kernelRelease ?? release());
  if (via === 'file' || (via === 'auto' && isSound)) {
    try {
      await mountFile(diskPath, directory, log);
      return { via: 'file' };
    } catch (error) {
      if (via === 'file' || !isUnwilling(error)) throw mountError(what, error);
    }
  }
  const device = await attachLoop(diskPath);
  try {
    await mountLoop(device, directory, log);
  } catch (error) {
    await detachLoop(device);
    throw mountError(what, error);
  }
  // It is freed with the mount from now on, also if this process is killed.
  await detachLoop(device);
  return { via: 'loop' };
}

/** ENOTBLK: no mounts of files, or not of this one; EINVAL: no `directio`, or the disk is bad. */
function isUnwilling(error: unknown): boolean {
  return errnoOf(error) === 'ENOTBLK' || errnoOf(error) === 'EINVAL';
}

async function mountFile(diskPath: string, directory: string, log: Log): Promise<void> {
  const before = await erofsDevices();
  const source = { source: diskPath, target: directory, type: 'erofs' };
  await mount({ ...source, flags: erofsFlags, data: 'directio' });
  const added = [...(await erofsDevices())].filter(name => !before.has(name));
  for (const device of added) await setReadAhead(device, readSizeMaxBytes, log);
}

async function mountLoop(device: string, directory: string, log: Log): Promise<void> {
  await mount({ source: device, target: directory, type: 'erofs', flags: erofsFlags });
  const entry = await mountAt(directory);
  if (entry !== undefined) await setReadAhead(entry.device, readSizeMaxBytes, log);
}

/** What was mounted last on the folder. */
async function mountAt(directory: string): Promise<MountEntry | undefined> {
  const path = await realPath(directory, `Cannot find the mount on ${directory}`);
  return (await listMounts()).findLast(({ mountPoint }) => mountPoint === path);
}

/**
 * Mounts `lower` with a writable layer. Upper and work are empty folders, or a pair of earlier,
 * on one file system. The layer below is an image, so what it says of redirects is not believed.
 */
export async function mountOverlay(options: {
  lower: string;
  upper: string;
  work: string;
  directory: string;
}): Promise<void> {
  const { lower, upper, work, directory } = options;
  const layers = Object.entries({ lowerdir: lower, upperdir: upper, workdir: work });
  const data = [
    ...layers.map(([option, path]) => `${option}=${path.replace(/[\\,:]/g, '\\$&')}`),
    'redirect_dir=nofollow',
    'metacopy=off',
  ].join();
  if (Buffer.byteLength(data) > mountDataMaxBytes) {
    const message = `Cannot mount a writable layer on ${directory}: the paths are too long`;
    throw new ImgstoreError('LIMIT', message, { hint: 'Use a shorter path as home.' });
  }
  try {
    await mount({ source: 'overlay', target: directory, type: 'overlay', flags: 0, data });
  } catch (error) {
    const what = `Cannot mount a writable layer on ${directory}`;
    if (errnoOf(error) !== 'EINVAL') throw mountError(what, error);
    const message = `${what}: the home's file system cannot hold one`;
    const hint = 'Put IMGSTORE_HOME on ext4, XFS or tmpfs, not on an overlay.';
    throw new ImgstoreError('UNSUPPORTED', message, { hint, cause: error });
  }
}

/** Shows a file or folder at another place, without what is mounted below it. */
export async function bindMount(options: {
  from: string;
  to: string;
  readOnly: boolean;
}): Promise<void> {
  const { from, to, readOnly } = options;
  try {
    await mount({ source: from, target: to, flags: mountFlag.bind });
    if (readOnly) await remountReadOnly(to);
  } catch (error) {
    throw mountError(`Cannot show ${from} at ${to}`, error);
  }
}

/** A remount sets all options of a bind mount anew, so those that it has are given again. */
async function remountReadOnly(directory: string): Promise<void> {
  const entry = await mountAt(directory);
  const kept = Object.entries({
    nosuid: mountFlag.noSetUid,
    nodev: mountFlag.noDevices,
    noexec: mountFlag.noExecute,
  }).filter(([option]) => entry?.options.includes(option));
  const flags = mountFlag.remount | mountFlag.bind | mountFlag.readOnly;
  try {
    const all = kept.reduce((sum, [, flag]) => sum | flag, flags);
    await mount({ source: 'none', target: directory, flags: all });
  } catch (error) {
    await unmountNow(directory, { detach: true });
    throw error;
  }
}

/**
 * Unmounts what is mounted last on the folder. With `detach` it goes out of sight at once, and for
 * good when nobody uses it any more. Errors: BUSY, NOT_FOUND nothing is mounted there, IO.
 */
export async function unmount(directory: string, options: { detach?: boolean } = {}) {
  const what = `Cannot unmount ${directory}`;
  try {
    await unmountNow(directory, { detach: options.detach ?? false });
  } catch (error) {
    if (errnoOf(error) === 'EINVAL') {
      throw new ImgstoreError('NOT_FOUND', `${what}: nothing is mounted there`, { cause: error });
    }
    throw mountError(what, error);
  }
}

const refusals: Readonly<Record<string, readonly [ImgstoreError['code'], string, string]>> = {
  EBUSY: ['BUSY', 'it is in use', 'Stop what uses it, or choose another folder.'],
  ENOENT: ['NOT_FOUND', 'no such file or directory', 'Check the paths.'],
  ENODEV: ['UNSUPPORTED', 'the kernel has no such file system', 'Load it: modprobe erofs overlay.'],
  ENOTBLK: ['UNSUPPORTED', 'the kernel cannot mount this file', 'Mount it through a loop device.'],
  EINVAL: ['CORRUPT', 'the kernel refuses it', 'dmesg says why.'],
  EBADMSG: ['CORRUPT', 'its checksum is wrong', 'Verify the image.'],
  EUCLEAN: ['CORRUPT', 'its structure is damaged', 'Verify the image; dmesg says more.'],
};

function mountError(what: string, error: unknown): unknown {
  const refusal = refusals[errnoOf(error) ?? ''];
  if (refusal === undefined) return ioError(what, error);
  const [code, state, hint] = refusal;
  return new ImgstoreError(code, `${what}: ${state}`, { hint, cause: error });
}
