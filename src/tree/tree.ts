/**
 * The flattened file system of one image as a value: what every layer together leaves behind.
 *
 * Invariants: directories are reached by exactly one path; any other inode may be reached by
 * several (hard links: the same object under several names). File contents are not here; a
 * FileContent names bytes that the source delivers while it is read.
 */

import type { ByteString } from '../base/byte-string.ts';

export interface Attributes {
  /** Permission bits with setuid, setgid and sticky: 0 to 0o7777. */
  mode: number;
  /** 0 to 2^32 - 1. */
  uid: number;
  gid: number;
  /** Seconds since 1970, a safe integer; negative before. */
  mtimeSeconds: number;
  /** 0 to 999,999,999. */
  mtimeNanoseconds: number;
  /** Full name (`user.x`, `security.capability`) to value. */
  xattrs: ReadonlyMap<ByteString, Uint8Array>;
}

/** A run of a sparse file that holds data; what lies between runs reads as zeros. */
export interface DataRun {
  offsetBytes: number;
  lengthBytes: number;
}

/**
 * The bytes of one regular file as a layer delivers them. Two files whose contents are equal may
 * still have two FileContents; hard links share the inode, and so the FileContent.
 */
export interface FileContent {
  /** Unique in one image: which layer and entry it comes from. */
  readonly ordinal: number;
  readonly sizeBytes: number;
  /** Undefined: all of it is data. Otherwise in order, not overlapping, within the size. */
  readonly runs: readonly DataRun[] | undefined;
}

export interface Directory extends Attributes {
  kind: 'directory';
  entries: Map<ByteString, Inode>;
}

export interface RegularFile extends Attributes {
  kind: 'file';
  content: FileContent;
}

export interface Symlink extends Attributes {
  kind: 'symlink';
  target: ByteString;
}

export interface Device extends Attributes {
  kind: 'character-device' | 'block-device';
  /** 12 bits. */
  major: number;
  /** 20 bits. */
  minor: number;
}

export interface Fifo extends Attributes {
  kind: 'fifo';
}

export type Inode = Directory | RegularFile | Symlink | Device | Fifo;

export interface Tree {
  root: Directory;
}

/**
 * Receives file contents in the order in which their source streams them. `write` is called with
 * the bytes of the content's data runs, in order, without the holes; the buffer belongs to the
 * caller again when the call (or the promise that it returned) is done. A returned promise is
 * back-pressure: the source waits for it.
 */
export interface ContentSink {
  begin(content: FileContent): Promise<unknown> | undefined;
  write(bytes: Uint8Array): Promise<unknown> | undefined;
  end(): Promise<unknown> | undefined;
  /**
   * A layer is over; what comes next is another's. A packer of small files cuts here, so that a
   * base layer gives the same packs whatever stands above it.
   */
  layerEnd?(): Promise<unknown> | undefined;
}

/** Names in the order of memcmp: the order of EROFS directories and of every walk. */
export function sortedEntries(directory: Directory): [ByteString, Inode][] {
  return [...directory.entries].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
}
