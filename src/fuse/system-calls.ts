/**
 * System calls that Node does not have, through koffi. Those with a promise run on a thread of
 * libuv's pool: they may wait for a FUSE mount that this very process serves, so the event loop
 * must stay free. They reject with Node's own kind of error (`code: 'EBUSY'`).
 */

import { closeSync } from 'node:fs';
import koffi, { type KoffiFunc } from 'koffi';
import { assert } from '../base/assert.ts';

type MountCall = (
  source: string,
  target: string,
  type: string | null,
  flags: number,
  data: string | null,
) => number;
type UnmountCall = (target: string, flags: number) => number;
type ReadCall = (fd: number, buffer: Buffer, sizeBytes: number) => number;
type PollCall = (entries: Buffer, count: number, timeoutMs: number) => number;
type EventCall = (initial: number, flags: number) => number;
type SystemCall = (number: number, a: number, b: number, c: number) => number;

const libc = koffi.load(null);
const mountCall = libc.func(
  'int mount(const char *, const char *, const char *, unsigned long, const char *)',
) as KoffiFunc<MountCall>;
const unmountCall = libc.func('int umount2(const char *, int)') as KoffiFunc<UnmountCall>;
const readCall = libc.func('int64_t read(int, void *, size_t)') as KoffiFunc<ReadCall>;
const pollCall = libc.func('int poll(void *, unsigned long, int)') as KoffiFunc<PollCall>;
const eventCall = libc.func('int eventfd(unsigned int, int)') as KoffiFunc<EventCall>;
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

/** eventfd(2): O_NONBLOCK and O_CLOEXEC. */
const eventFlags = 0o2004000;
/** poll(2). */
const pollIn = 1;
const pollEntryBytes = 8;
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

/** A descriptor that poll finds readable once 8 bytes have been written to it. */
export function openEvent(): number {
  const fd = eventCall(0, eventFlags);
  if (fd < 0) throw systemError('eventfd', koffi.errno());
  return fd;
}

/** Calls back, on a later turn, when one of these descriptors is readable or broken. */
export class Poll {
  readonly #entries: Buffer;
  readonly #count: number;

  constructor(descriptors: readonly number[]) {
    this.#count = descriptors.length;
    this.#entries = Buffer.alloc(this.#count * pollEntryBytes);
    descriptors.forEach((fd, i) => {
      this.#entries.writeInt32LE(fd, i * pollEntryBytes);
      this.#entries.writeInt16LE(pollIn, i * pollEntryBytes + 4);
    });
  }

  /** One wait at a time. It holds a thread of the pool; EINTR and the like count as readable. */
  wait(then: () => void): void {
    pollCall.async(this.#entries, this.#count, -1, (error: unknown) => {
      assert(!error, 'poll takes its arguments');
      then();
    });
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
