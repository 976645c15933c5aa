/** A tar entry as an order to the tree: checked, cleaned, and as small as it can be kept. */

import type { ByteString } from '../../base/byte-string.ts';
import { symlinkTargetMaxBytes } from '../../base/limits.ts';
import type { Attributes, Device, FileContent, Inode } from '../../tree/tree.ts';
import type { Budget } from './budget.ts';
import { EntryFault, shownPath } from './fault.ts';
import { cleanPath, meaningOf, rootPath } from './layer-path.ts';
import type { TarEntry } from './tar-reader.ts';
import type { Warn } from './warnings.ts';
import { XattrFilter } from './xattr-filter.ts';

export type LayerRecord =
  | { kind: 'inode'; path: ByteString; inode: Inode }
  | { kind: 'hard-link'; path: ByteString; target: ByteString; attributes: Attributes }
  /** Removes the path from lower layers. */
  | { kind: 'whiteout'; path: ByteString }
  /** Removes all in the directory that lower layers put there. */
  | { kind: 'opaque'; path: ByteString }
  /** Takes the place of what was at the path, and leaves nothing there. */
  | { kind: 'nothing'; path: ByteString };

/** Linux packs device numbers in 12 and 20 bits. */
const deviceMajorMax = 0xfff;
const deviceMinorMax = 0xfffff;
const idMax = 0xffffffff;

/** What a data run takes in memory, roughly. */
const runCostBytes = 64;

export class RecordMaker {
  readonly #budget: Budget;
  readonly #xattrs: XattrFilter;
  readonly #warn: Warn;

  constructor(budget: Budget, warn: Warn) {
    this.#budget = budget;
    this.#warn = warn;
    this.#xattrs = new XattrFilter(budget, warn);
  }

  /**
   * `ordinal` names the content if the entry is a file. Undefined: the entry means nothing.
   * Throws EntryFault if it is malformed or beyond a limit.
   */
  make(entry: TarEntry, ordinal: number): LayerRecord | undefined {
    const { kind, path } = meaningOf(cleanPath(entry.path));
    if (kind === 'ignored') return undefined;
    this.#budget.addEntry();
    this.#budget.addMetadata(path.length);
    if (kind !== 'entry') return { kind, path };
    if (path === rootPath && entry.type !== 'directory')
      throw new EntryFault('CORRUPT', 'it would replace the root directory');
    if (entry.type === 'hard-link') {
      const target = cleanPath(entry.linkPath);
      this.#budget.addMetadata(target.length);
      return { kind: 'hard-link', path, target, attributes: this.#attributes(entry) };
    }
    // Overlayfs takes such a device for a whiteout, wherever the disk is mounted below one.
    if (entry.type === 'character-device' && entry.major === 0 && entry.minor === 0) {
      this.#warn('devices 0:0', `device 0:0 at ${shownPath(path)} is left out`);
      return { kind: 'nothing', path };
    }
    return { kind: 'inode', path, inode: this.#inode(entry, ordinal) };
  }

  #inode(entry: TarEntry, ordinal: number): Inode {
    const attributes = this.#attributes(entry);
    switch (entry.type) {
      case 'directory':
        return { kind: 'directory', ...attributes, entries: new Map() };
      case 'symlink':
        return { kind: 'symlink', ...attributes, mode: 0o777, target: this.#target(entry) };
      case 'fifo':
        return { kind: 'fifo', ...attributes };
      case 'character-device':
      case 'block-device':
        return { kind: entry.type, ...attributes, ...deviceNumbers(entry) };
      default:
        return { kind: 'file', ...attributes, content: this.#content(entry, ordinal) };
    }
  }

  #attributes(entry: TarEntry): Attributes {
    return {
      // Two's complement: only the low twelve bits count, whatever stands above them.
      mode: ((entry.mode % 0o10000) + 0o10000) % 0o10000,
      uid: checkedId(entry.uid, 'owner'),
      gid: checkedId(entry.gid, 'group'),
      mtimeSeconds: entry.mtimeSeconds,
      mtimeNanoseconds: entry.mtimeNanoseconds,
      xattrs: this.#xattrs.kept(entry),
    };
  }

  #target(entry: TarEntry): ByteString {
    const target = entry.linkPath;
    if (target === '') throw new EntryFault('CORRUPT', 'it is a symlink without a target');
    if (target.length > symlinkTargetMaxBytes)
      throw new EntryFault('LIMIT', `its target has more than ${symlinkTargetMaxBytes} bytes`);
    this.#budget.addMetadata(target.length);
    return target;
  }

  #content(entry: TarEntry, ordinal: number): FileContent {
    const { sizeBytes, runs } = entry;
    if (runs !== undefined) this.#budget.addMetadata(runs.length * runCostBytes);
    return { ordinal, sizeBytes, runs };
  }
}

function deviceNumbers(entry: TarEntry): Pick<Device, 'major' | 'minor'> {
  const { major, minor } = entry;
  const fits = major >= 0 && major <= deviceMajorMax && minor >= 0 && minor <= deviceMinorMax;
  if (!fits) throw new EntryFault('CORRUPT', `there is no device ${major}:${minor}`);
  return { major, minor };
}

function checkedId(id: number, whose: string): number {
  if (id < 0 || id > idMax) throw new EntryFault('CORRUPT', `there is no ${whose} ${id}`);
  return id;
}
