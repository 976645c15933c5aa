/**
 * Which attributes of a tree are stored once for all inodes that have them, and the body that each
 * inode gets. A pair of name and value is shared if that makes the disk smaller: SELinux labels
 * and the like. Order is that of the tree's walk, so one tree gives one area.
 */

import { assert } from '../base/assert.ts';
import type { ByteString } from '../base/byte-string.ts';
import { sha256Hex } from '../base/digest.ts';
import { ImgstoreError } from '../base/errors.ts';
import { xattrNameMaxBytes, xattrsPerInodeMaxBytes, xattrValueMaxBytes } from '../base/limits.ts';
import {
  xattrBodyMaxBytes,
  xattrHeaderSharedCountAt,
  xattrHeaderSizeBytes,
  xattrsSharedMax,
  xattrUnitBytes,
} from './format.ts';
import { splitXattrName, writeXattrEntry, xattrEntrySizeBytes } from './xattr.ts';

type Xattrs = ReadonlyMap<ByteString, Uint8Array>;

interface Candidate {
  name: ByteString;
  value: Uint8Array;
  inodes: number;
  /** Offset in the area in units of 4 bytes, or undefined: each inode has its own. */
  id: number | undefined;
}

export class SharedXattrs {
  readonly #candidates = new Map<string, Candidate>();
  #areaSizeBytes: number | undefined;

  /** To be called once for each inode, in the order of the walk; throws as checkXattrs does. */
  count(xattrs: Xattrs, pathOf: () => string): void {
    assert(this.#areaSizeBytes === undefined, 'attributes are counted before they are placed');
    checkXattrs(xattrs, pathOf);
    for (const [name, value] of xattrs) {
      const key = keyOf(name, value);
      const known = this.#candidates.get(key);
      if (known !== undefined) known.inodes++;
      else this.#candidates.set(key, { name, value, inodes: 1, id: undefined });
    }
  }

  /** Decides what is shared and where it stands; returns the area's size. */
  place(): number {
    let at = 0;
    for (const [key, candidate] of this.#candidates) {
      const sizeBytes = entrySizeBytes(candidate.name, candidate.value);
      const ownBytes = candidate.inodes * sizeBytes;
      if (ownBytes > candidate.inodes * xattrUnitBytes + sizeBytes) {
        candidate.id = at / xattrUnitBytes;
        at += sizeBytes;
      } else {
        this.#candidates.delete(key);
      }
    }
    this.#areaSizeBytes = at;
    return at;
  }

  writeArea(target: Buffer, at: number): void {
    for (const { name, value } of this.#candidates.values())
      at = writeXattrEntry(target, at, splitXattrName(name)!, value);
  }

  /** 0 without attributes: there is no body then. */
  bodySizeBytes(xattrs: Xattrs): number {
    if (xattrs.size === 0) return 0;
    const { sharedIds, own } = this.#split(xattrs);
    let sizeBytes = xattrHeaderSizeBytes + sharedIds.length * xattrUnitBytes;
    for (const [name, value] of own) sizeBytes += entrySizeBytes(name, value);
    return sizeBytes;
  }

  /** Writes an inode's body to zeroed bytes. */
  writeBody(target: Buffer, at: number, xattrs: Xattrs): void {
    if (xattrs.size === 0) return;
    const { sharedIds, own } = this.#split(xattrs);
    target.writeUInt8(sharedIds.length, at + xattrHeaderSharedCountAt);
    let next = at + xattrHeaderSizeBytes;
    for (const id of sharedIds) next = target.writeUInt32LE(id, next);
    for (const [name, value] of own)
      next = writeXattrEntry(target, next, splitXattrName(name)!, value);
  }

  #split(xattrs: Xattrs): { sharedIds: number[]; own: [ByteString, Uint8Array][] } {
    const sharedIds: number[] = [];
    const own: [ByteString, Uint8Array][] = [];
    for (const name of [...xattrs.keys()].sort()) {
      const value = xattrs.get(name)!;
      const id = this.#candidates.get(keyOf(name, value))?.id;
      if (id !== undefined && sharedIds.length < xattrsSharedMax) sharedIds.push(id);
      else own.push([name, value]);
    }
    return { sharedIds, own };
  }
}

function entrySizeBytes(name: ByteString, value: Uint8Array): number {
  return xattrEntrySizeBytes(splitXattrName(name)!.suffix.length, value.length);
}

/** Equal for equal pairs only; long values by their digest, so that keys stay short. */
function keyOf(name: ByteString, value: Uint8Array): string {
  const short = value.length <= 128;
  const text = short
    ? Buffer.from(value.buffer, value.byteOffset, value.length).toString('latin1')
    : sha256Hex(value);
  return `${short ? 'v' : 'h'}${name}\0${text}`;
}

/**
 * UNSUPPORTED: a namespace that EROFS cannot hold; LIMIT: longer than Linux allows, or more than an
 * inode can carry. Sizes count as if nothing were shared: what is legal must not depend on others.
 */
function checkXattrs(xattrs: Xattrs, pathOf: () => string): void {
  let bodyBytes = xattrHeaderSizeBytes;
  let namesBytes = 0;
  for (const [name, value] of xattrs) {
    const split = splitXattrName(name);
    if (split === undefined || name.includes('\0')) {
      throw new ImgstoreError(
        'UNSUPPORTED',
        `Cannot write ${pathOf()}: Linux cannot hold its attribute ${JSON.stringify(name)}`,
        { hint: 'Attributes of user, trusted, security and POSIX ACLs can be stored.' },
      );
    }
    if (name.length > xattrNameMaxBytes)
      throw limit(pathOf(), `the name of an attribute has ${name.length} bytes`, xattrNameMaxBytes);
    if (value.length > xattrValueMaxBytes)
      throw limit(pathOf(), `an attribute has ${value.length} bytes`, xattrValueMaxBytes);
    bodyBytes += xattrEntrySizeBytes(split.suffix.length, value.length);
    namesBytes += name.length + 1;
  }
  if (namesBytes > xattrsPerInodeMaxBytes)
    throw limit(pathOf(), `attribute names have ${namesBytes} bytes`, xattrsPerInodeMaxBytes);
  if (bodyBytes > xattrBodyMaxBytes)
    throw limit(pathOf(), `attributes have ${bodyBytes} bytes`, xattrBodyMaxBytes);
}

function limit(path: string, state: string, maxBytes: number): ImgstoreError {
  return new ImgstoreError('LIMIT', `Cannot write ${path}: ${state} (at most ${maxBytes})`);
}
