/**
 * The kernel's FUSE protocol as far as a read-only server of few files needs it: offsets, codes and
 * flags, little-endian. Source: include/uapi/linux/fuse.h of Linux; see docs/format/fuse.md.
 */

import { assert } from '../base/assert.ts';
import { chunkSizeMaxBytes, KiB } from '../base/limits.ts';

export const protocolMajor = 7;
/** What this server speaks; the lower of this and the kernel's counts. */
export const protocolMinor = 36;
/** max_pages came with 7.28 (Linux 4.20); without it reads are 128 KiB and slow. */
export const protocolMinorFloor = 28;

/** struct fuse_in_header. */
export const requestHeader = {
  length: 0,
  opcode: 4,
  unique: 8,
  nodeId: 16,
  sizeBytes: 40,
} as const;

/** struct fuse_out_header. The error is 0 or a negative errno; in a notification it is the code. */
export const replyHeader = { length: 0, error: 4, unique: 8, sizeBytes: 16 } as const;

export const opcode = {
  lookup: 1,
  forget: 2,
  getattr: 3,
  open: 14,
  read: 15,
  statfs: 17,
  release: 18,
  init: 26,
  opendir: 27,
  readdir: 28,
  releasedir: 29,
  interrupt: 36,
  batchForget: 42,
} as const;

/** struct fuse_init_in; the second word of flags is there if `initExt` is offered. */
export const initIn = {
  major: 0,
  minor: 4,
  maxReadAhead: 8,
  flags: 12,
  flags2: 16,
  sizeMinBytes: 16,
  sizeExtMinBytes: 20,
} as const;

/** struct fuse_init_out. */
export const initOut = {
  major: 0,
  minor: 4,
  maxReadAhead: 8,
  flags: 12,
  maxBackground: 16,
  congestionThreshold: 18,
  maxWrite: 20,
  timeGranularity: 24,
  maxPages: 28,
  flags2: 32,
  sizeBytes: 64,
} as const;

/** First word of the flags of INIT. */
export const initFlag = {
  asyncRead: 1 << 0,
  asyncDirectIo: 1 << 15,
  parallelDirOps: 1 << 18,
  maxPages: 1 << 22,
  /** Without it the kernel does not look at the second word. */
  initExt: 1 << 30,
} as const;

/** Second word: bits 32 and up. Bit 5, passthrough, must stay off: EROFS refuses such a file. */
export const initFlag2 = { hasResend: 1 << 7 } as const;

/** struct fuse_open_in and fuse_open_out. */
export const openIn = { flags: 0, sizeBytes: 8 } as const;
export const openOut = { fileHandle: 0, flags: 8, sizeBytes: 16 } as const;
export const openFlag = { keepCache: 1 << 1, noFlush: 1 << 5 } as const;
export const accessModeMask = 3;

/** struct fuse_read_in, for READ and READDIR. */
export const readIn = { offset: 8, size: 16, sizeBytes: 40 } as const;

/** struct fuse_attr. */
export const attributes = {
  inode: 0,
  size: 8,
  blocks: 16,
  mode: 60,
  links: 64,
  uid: 68,
  gid: 72,
  blockSize: 80,
  sizeBytes: 88,
} as const;

/** struct fuse_attr_out and fuse_entry_out. Validities are in seconds. */
export const attributesOut = { validity: 0, attributes: 16, sizeBytes: 104 } as const;
export const entryOut = {
  nodeId: 0,
  generation: 8,
  entryValidity: 16,
  attributesValidity: 24,
  attributes: 40,
  sizeBytes: 128,
} as const;

/** struct fuse_dirent, then the name, padded to 8 bytes. */
export const directoryEntry = {
  inode: 0,
  nextOffset: 8,
  nameLength: 16,
  type: 20,
  name: 24,
  alignment: 8,
} as const;
export const directoryEntryType = { directory: 4, file: 8 } as const;

/** struct fuse_kstatfs. */
export const statfsOut = { blockSize: 40, nameLength: 44, sizeBytes: 80 } as const;

/** struct fuse_notify_inval_entry_out, then the name and a zero byte. */
export const invalidateEntry = { parent: 0, nameLength: 8, name: 16 } as const;
export const notifyCode = { invalidateEntry: 3, resend: 7 } as const;

export const fileMode = { directory: 0o040000, regular: 0o100000 } as const;

/** Errnos of Linux, the same on every architecture that Node runs on. */
export const errno = {
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  EAGAIN: 11,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  EROFS: 30,
  ENOSYS: 38,
  EPROTO: 71,
  ECONNABORTED: 103,
  ESTALE: 116,
} as const;

export const pageSizeBytes = 4 * KiB;
/** The most that Linux grants without its sysctl fs.fuse.max_pages_limit being raised. */
export const maxPages = 256;
/** Also a mount option, for kernels with larger pages. */
export const readSizeMaxBytes = maxPages * pageSizeBytes;
/** The least that is allowed. It bounds WRITE, which never comes, and with it our read buffer. */
export const maxWriteBytes = 4 * KiB;
/** The kernel refuses to write a request into less than this. */
export const requestSizeMaxBytes = 8 * KiB;
/**
 * Reads of all images that may be under way at once, apart from those that block their process. If
 * they are used up, every image waits for the slow one, so it is far above what a worker reaches;
 * each costs the kernel and this process a few KiB.
 */
export const maxBackground = 8192;
/** From here on the kernel leaves away read-ahead that nobody waits for. */
export const congestionThreshold = 6144;
/** Nothing changes as long as it is there. Seconds; the kernel cuts more than it can count. */
export const validitySeconds = 0x7fffffff;

assert(readSizeMaxBytes === chunkSizeMaxBytes, 'the largest read is the largest chunk');
assert(requestSizeMaxBytes >= 80 + maxWriteBytes, 'a request fits its buffer');
assert(congestionThreshold < maxBackground && maxBackground < 65536, 'INIT holds 16 bits');
