/**
 * Applies the records of layers, bottom layer first, to a tree.
 *
 * Rules (OCI image spec, layer.md; umoci where it leaves room): a directory over a directory keeps
 * the children and takes the attributes; anything else replaces what was there. Whiteouts act on
 * what lower layers left, never on what their own layer put there, wherever in the layer they
 * stand: so every path that a layer sets, and all its ancestors, are marked while it is applied.
 */

import type { ByteString } from '../../base/byte-string.ts';
import type { Attributes, Directory, Inode, Tree } from '../../tree/tree.ts';
import type { Budget } from './budget.ts';
import { EntryFault, shownPath } from './fault.ts';
import { baseName, parentPath, rootPath } from './layer-path.ts';
import type { LayerRecord } from './layer-record.ts';
import { directoryOf, impliedDirectory, PathResolver, type Place } from './path-resolver.ts';
import { fits } from './xattr-filter.ts';

type HardLink = Extract<LayerRecord, { kind: 'hard-link' }>;

export class TreeBuilder {
  readonly tree: Tree = { root: impliedDirectory() };
  readonly #resolver: PathResolver;
  /** Names that the current layer set, and the directories on their way. */
  #touched = new Map<Directory, Set<ByteString>>();
  /** Directories below which nothing of lower layers is left. */
  #pruned = new Set<Directory>();
  /** Links whose target comes later in the layer, or never. */
  #waiting: HardLink[] = [];

  constructor(budget: Budget) {
    this.#resolver = new PathResolver(this.tree.root, budget);
  }

  /** Throws EntryFault if the record cannot be applied. */
  apply(record: LayerRecord): void {
    switch (record.kind) {
      case 'inode':
        this.#applyInode(record.path, record.inode);
        break;
      case 'hard-link':
        this.#applyLink(record);
        break;
      case 'whiteout':
        this.#applyWhiteout(record.path);
        break;
      case 'opaque': {
        const place = this.#resolver.find(record.path);
        if (place !== undefined) this.#prune(directoryOf(place));
        break;
      }
      case 'nothing': {
        const place = this.#resolver.findOrMake(parentPath(record.path));
        this.#remove(directoryOf(place), baseName(record.path));
        this.#touch(place, baseName(record.path));
        break;
      }
    }
  }

  /** The links whose target the layer has not brought so far: their last chance is now. */
  takeWaitingLinks(): HardLink[] {
    const waiting = this.#waiting;
    this.#waiting = [];
    return waiting;
  }

  /** Throws EntryFault if the target is still missing. */
  applyWaitingLink(link: HardLink): void {
    const place = this.#resolver.findOrMake(parentPath(link.path));
    // What stands here now came later in the layer than the link.
    if (directoryOf(place).entries.has(baseName(link.path))) return;
    const inode = this.#linked(link);
    if (inode === undefined)
      throw new EntryFault('CORRUPT', `it links to ${shownPath(link.target)}, which is not there`);
    this.#placeLink(place, link, inode);
  }

  /** What was set so far belongs to lower layers now. */
  endLayer(): void {
    this.#touched = new Map();
    this.#pruned = new Set();
  }

  #applyInode(path: ByteString, inode: Inode): void {
    if (path === rootPath) {
      assignAttributes(this.tree.root, inode);
      return;
    }
    const place = this.#resolver.findOrMake(parentPath(path));
    const name = baseName(path);
    const directory = directoryOf(place);
    const existing = directory.entries.get(name);
    if (existing?.kind === 'directory' && inode.kind === 'directory')
      assignAttributes(existing, inode);
    else {
      this.#remove(directory, name);
      this.#set(directory, name, inode);
    }
    this.#touch(place, name);
  }

  #applyLink(link: HardLink): void {
    const place = this.#resolver.findOrMake(parentPath(link.path));
    const name = baseName(link.path);
    const directory = directoryOf(place);
    const targetPlace = this.#resolver.find(parentPath(link.target));
    const toItself =
      targetPlace !== undefined &&
      directoryOf(targetPlace) === directory &&
      baseName(link.target) === name;
    if (toItself) {
      // tar writes this for a file that it is told to pack twice.
      if (this.#touched.get(directory)?.has(name) && directory.entries.has(name)) return;
      throw new EntryFault('CORRUPT', 'it is a hard link to itself');
    }
    this.#remove(directory, name);
    const inode = this.#linked(link);
    if (inode === undefined) {
      this.#touch(place, name);
      this.#waiting.push(link);
    } else this.#placeLink(place, link, inode);
  }

  /** What a link's target is now. */
  #linked(link: HardLink): Inode | undefined {
    if (link.target === rootPath) return this.tree.root;
    const place = this.#resolver.find(parentPath(link.target));
    return place && directoryOf(place).entries.get(baseName(link.target));
  }

  #placeLink(place: Place, link: HardLink, inode: Inode): void {
    if (inode.kind === 'directory')
      throw new EntryFault('CORRUPT', `it is a hard link to directory ${shownPath(link.target)}`);
    assignLinkAttributes(inode, link.attributes);
    const name = baseName(link.path);
    this.#set(directoryOf(place), name, inode);
    this.#touch(place, name);
  }

  #applyWhiteout(path: ByteString): void {
    const place = this.#resolver.find(parentPath(path));
    if (place === undefined) return;
    const directory = directoryOf(place);
    const name = baseName(path);
    if (!this.#touched.get(directory)?.has(name)) this.#remove(directory, name);
    else {
      const inode = directory.entries.get(name);
      if (inode?.kind === 'directory') this.#prune(inode);
    }
  }

  /** Removes what lower layers left below a directory; every directory is looked at but once. */
  #prune(top: Directory): void {
    const pending = [top];
    for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
      if (this.#pruned.has(directory)) continue;
      this.#pruned.add(directory);
      const touched = this.#touched.get(directory);
      for (const [name, inode] of directory.entries) {
        if (!touched?.has(name)) this.#remove(directory, name);
        else if (inode.kind === 'directory') pending.push(inode);
      }
    }
  }

  #set(directory: Directory, name: ByteString, inode: Inode): void {
    directory.entries.set(name, inode);
    if (inode.kind === 'symlink') this.#resolver.forget();
  }

  #remove(directory: Directory, name: ByteString): void {
    const inode = directory.entries.get(name);
    if (inode === undefined) return;
    directory.entries.delete(name);
    if (inode.kind === 'directory' || inode.kind === 'symlink') this.#resolver.forget();
  }

  #touch(place: Place, name: ByteString): void {
    let marked = name;
    for (let i = place.directories.length - 1; i >= 0; i--) {
      const directory = place.directories[i]!;
      let names = this.#touched.get(directory);
      if (names === undefined) {
        names = new Set();
        this.#touched.set(directory, names);
      } else if (names.has(marked)) return; // and so are its ancestors
      names.add(marked);
      marked = place.names[i - 1]!;
    }
  }
}

function assignAttributes(to: Attributes, from: Attributes): void {
  to.mode = from.mode;
  to.uid = from.uid;
  to.gid = from.gid;
  to.mtimeSeconds = from.mtimeSeconds;
  to.mtimeNanoseconds = from.mtimeNanoseconds;
  to.xattrs = from.xattrs;
}

/** A link's own attributes go to the shared inode; xattrs that it does not name stay. */
function assignLinkAttributes(inode: Inode, from: Attributes): void {
  const xattrs = new Map(inode.xattrs);
  for (const [name, value] of from.xattrs) if (fits(name, inode.kind)) xattrs.set(name, value);
  const mode = inode.kind === 'symlink' ? inode.mode : from.mode;
  assignAttributes(inode, { ...from, mode, xattrs });
}
