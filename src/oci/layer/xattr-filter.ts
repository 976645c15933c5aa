/**
 * Which extended attributes of a layer a disk keeps: those that Linux could hold on that kind of
 * file. Others are dropped with a warning, as runtimes do.
 */

import { type ByteString, bytesOf, printable } from '../../base/byte-string.ts';
import {
  xattrNameMaxBytes,
  xattrsPerInodeMaxBytes,
  xattrValueMaxBytes,
} from '../../base/limits.ts';
import type { Inode } from '../../tree/tree.ts';
import type { Budget } from './budget.ts';
import { EntryFault, shownPath } from './fault.ts';
import type { TarEntry, TarEntryType } from './tar-reader.ts';
import type { Warn } from './warnings.ts';

export type Xattrs = ReadonlyMap<ByteString, Uint8Array>;

export const noXattrs: Xattrs = new Map();

/** Values of this size are mostly labels, the same on thousands of files: they are kept once. */
const sharedValueMaxBytes = 256;
/** What an attribute takes in memory besides its bytes, roughly. */
const xattrCostBytes = 64;

export class XattrFilter {
  readonly #budget: Budget;
  readonly #warn: Warn;
  readonly #shared = new Map<ByteString, Uint8Array>();

  constructor(budget: Budget, warn: Warn) {
    this.#budget = budget;
    this.#warn = warn;
  }

  /** The kept ones of an entry; of a hard link, all that its target may turn out to hold. */
  kept(entry: TarEntry): Xattrs {
    if (entry.xattrs === undefined || entry.xattrs.size === 0) return noXattrs;
    const kept = new Map<ByteString, Uint8Array>();
    let namesBytes = 0;
    for (const [name, value] of entry.xattrs) {
      checkSizes(name, value);
      const reason = reasonToDrop(name, entry.type);
      if (reason !== undefined) {
        const shown = `${printable(name)} of ${shownPath(entry.path)}`;
        this.#warn(reason, `extended attribute ${shown} is left out: ${reason}`);
        continue;
      }
      namesBytes += name.length + 1;
      kept.set(name, this.#bytes(value));
      this.#budget.addMetadata(xattrCostBytes + name.length);
    }
    if (namesBytes > xattrsPerInodeMaxBytes)
      throw new EntryFault('LIMIT', 'it has too many extended attributes');
    return kept.size === 0 ? noXattrs : kept;
  }

  #bytes(value: ByteString): Uint8Array {
    const shared = this.#shared.get(value);
    if (shared !== undefined) return shared;
    const bytes = bytesOf(value);
    this.#budget.addMetadata(value.length);
    if (value.length <= sharedValueMaxBytes) this.#shared.set(value, bytes);
    return bytes;
  }
}

function checkSizes(name: ByteString, value: ByteString): void {
  if (name.length === 0 || name.includes('\0'))
    throw new EntryFault('CORRUPT', 'the name of an extended attribute is malformed');
  if (name.length > xattrNameMaxBytes)
    throw new EntryFault('LIMIT', 'the name of an extended attribute is too long');
  if (value.length > xattrValueMaxBytes)
    throw new EntryFault('LIMIT', `extended attribute ${printable(name)} is too large`);
}

function reasonToDrop(name: ByteString, type: TarEntryType): string | undefined {
  // These steer overlayfs, and whoever mounts the disk below one did not mean them.
  if (name.startsWith('trusted.overlay.')) return 'it belongs to overlayfs';
  const acl = name === 'system.posix_acl_access' || name === 'system.posix_acl_default';
  if (!acl && !/^(?:user|trusted|security)\../s.test(name)) return 'Linux has no such namespace';
  if (type !== 'hard-link' && !fits(name, type)) return 'this kind of file cannot have it';
  return undefined;
}

/** What xattr(7) says of kinds: user attributes are for files and directories. */
export function fits(name: ByteString, kind: Inode['kind']): boolean {
  if (name.startsWith('user.')) return kind === 'file' || kind === 'directory';
  if (name === 'system.posix_acl_default') return kind === 'directory';
  if (name === 'system.posix_acl_access') return kind !== 'symlink';
  return true;
}
