/**
 * System calls that Node does not have, through koffi. Those with a promise run on a thread of
 * libuv's pool: they may wait for a FUSE mount that this very process serves, so the event loop
 * must stay free. They reject with Node's own kind of error (`code: 'EBUSY'`).
 */

import { closeSync, constants } from 'node:fs';
import koffi, { type KoffiFunc } from 'koffi';

type MountCall = (
  source: string,
  target: string,
  type: string | null,
  flags: number,
  data: string | null,
) => number;
type UnmountCall = (target: string, flags: number) => number;
type ReadCall = (fd: number, buffer: Buffer, sizeBytes: number) => number;
type ControlCall = (fd: number, command: number, argument: number) => number;
type SystemCall = (number: number, a: number, b: number, c: number) => number;

const libc = koffi.load(null);
const mountCall = libc.func(
  'int mount(const char *, const char *, const char *, unsigned long, const char *)',
) as KoffiFunc<MountCall>;
const unmountCall = libc.func('int umount2(const char *, int)') as KoffiFunc<UnmountCall>;
const readCall = libc.func('int64_t read(int, void *, size_t)') as KoffiFunc<ReadCall>;
const controlCall = libc.func('int fcntl(int, int, long)') as KoffiFunc<ControlCall>;
const systemCall = libc.func('int64_t syscall(long, long, long, long)') as KoffiFunc<SystemCall>;

const errnoNames = new Map(Object.entries(koffi.os.errno).map(([name, number]) => [number, name]));

/** linux/mount.h. */
export const mountFlag = {
  readOnly: 1 << 0,
  noSetUid: 1 << 1,
  noDevices: 1 << 2,
  noExecute: 1 << 3,
  remount: 1 << 5,
  bind: 1 << 12,
} as const;

const unmountDetach = 1 << 1;
const unmountNoFollow = 1 << 3;

/** fcntl(2). */
const setFlags = 4;
const setOwner = 8;
const asyncFlag = 0o20000;
/** System calls as young as these have one number on all architectures. */
const pidfdOpenNumber = 434;
const pidfdGetfdNumber = 438;

function systemError(call: string, errno: number): NodeJS.ErrnoException {
  const code = errnoNames.get(errno) ?? `E${errno}`;
  return Object.assign(new Error(`${call}: ${code}`), { code, errno: -errno, syscall: call });
}

export function mount(options: {
  source: string;
  target: string;
  type?: string;
  flags: number;
  data?: string;
}): Promise<void> {
  const { source, target, type = null, flags, data = null } = options;
  return new Promise((resolve, reject) => {
    mountCall.async(source, target, type, flags, data, (error: unknown, result) => {
      if (error) reject(error);
      else if (result !== 0) reject(systemError('mount', koffi.errno()));
      else resolve();
    });
  });
}

/** Never follows a symlink at the end of the path. */
export function unmountNow(target: string, options: { detach: boolean }): Promise<void> {
  const flags = unmountNoFollow | (options.detach ? unmountDetach : 0);
  return new Promise((resolve, reject) => {
    unmountCall.async(target, flags, (error: unknown, result) => {
      if (error) reject(error);
      else if (result !== 0) reject(systemError('umount2', koffi.errno()));
      else resolve();
    });
  });
}

/** Bytes read into the buffer, or a negative errno: at once, as the descriptor must not block. */
export function readOrErrno(fd: number, buffer: Buffer): number {
  const result = readCall(fd, buffer, buffer.length);
  return result < 0 ? -koffi.errno() : Number(result);
}

/**
 * Makes the descriptor non-blocking and has the kernel raise SIGIO in this process whenever there is
 * something new to read from it, or no more. The setting belongs to what is open, not to the
 * descriptor: the last process that asks for it gets the signals, and none if that one is gone.
 */
export function signalWhenReadable(fd: number, isWanted: boolean): void {
  const flags = constants.O_RDWR | constants.O_NONBLOCK | (isWanted ? asyncFlag : 0);
  if (
    controlCall(fd, setOwner, isWanted ? process.pid : 0) < 0 ||
    controlCall(fd, setFlags, flags) < 0
  ) {
    throw systemError('fcntl', koffi.errno());
  }
}

/**
 * A descriptor of another process as one of ours (Linux 5.6, needs ptrace rights): how one process
 * keeps the FUSE connection of another alive, and how a successor gets it.
 */
export function copyDescriptor(from: { pid: number; fd: number }): number {
  const pidfd = Number(systemCall(pidfdOpenNumber, from.pid, 0, 0));
  if (pidfd < 0) throw systemError('pidfd_open', koffi.errno());
  const fd = Number(systemCall(pidfdGetfdNumber, pidfd, from.fd, 0));
  const errno = koffi.errno();
  closeSync(pidfd);
  if (fd < 0) throw systemError('pidfd_getfd', errno);
  return fd;
}
