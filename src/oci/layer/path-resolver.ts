/**
 * From a cleaned path to a directory of the tree, through symlinks that never lead out of it.
 *
 * As container runtimes do it (securejoin): absolute targets start at the root, `..` stops there,
 * and a component that does not exist, or is no directory, is taken as it is written, so that a
 * later `..` undoes it. What is missing at the end can be made.
 */

import type { ByteString } from '../../base/byte-string.ts';
import { symlinkHopsMax, treeDepthMax } from '../../base/limits.ts';
import type { Directory } from '../../tree/tree.ts';
import type { Budget } from './budget.ts';
import { EntryFault, shownPath } from './fault.ts';
import { noXattrs } from './xattr-filter.ts';

/** A directory and the way to it: names[i] leads from directories[i] to directories[i + 1]. */
export interface Place {
  directories: Directory[];
  names: ByteString[];
}

export function directoryOf(place: Place): Directory {
  return place.directories.at(-1)!;
}

interface Walk extends Place {
  missing: ByteString[];
}

export class PathResolver {
  readonly #root: Directory;
  readonly #budget: Budget;
  /** Neighbours in a tar mostly share their parent. */
  #lastPath: ByteString | undefined;
  #lastPlace: Place | undefined;

  constructor(root: Directory, budget: Budget) {
    this.#root = root;
    this.#budget = budget;
  }

  /** Call it when a symlink comes or goes or a directory goes: what was resolved may be stale. */
  forget(): void {
    this.#lastPath = undefined;
  }

  /** Undefined if there is no such directory. */
  find(path: ByteString): Place | undefined {
    if (path === this.#lastPath) return this.#lastPlace;
    const walk = this.#walk(path);
    return walk.missing.length === 0 ? this.#remember(path, walk) : undefined;
  }

  /**
   * Like find, but makes what is missing, with the attributes that runtimes give such directories.
   * Throws EntryFault if something on the way is not a directory.
   */
  findOrMake(path: ByteString): Place {
    if (path === this.#lastPath) return this.#lastPlace!;
    const walk = this.#walk(path);
    for (const name of walk.missing) {
      const parent = directoryOf(walk);
      if (parent.entries.has(name))
        throw new EntryFault('CORRUPT', `${shownPath(name)} on its way is not a directory`);
      const made = impliedDirectory();
      this.#budget.addEntry();
      parent.entries.set(name, made);
      walk.directories.push(made);
      walk.names.push(name);
    }
    return this.#remember(path, walk);
  }

  #remember(path: ByteString, { directories, names }: Walk): Place {
    this.#lastPath = path;
    this.#lastPlace = { directories, names };
    return this.#lastPlace;
  }

  #walk(path: ByteString): Walk {
    const walk: Walk = { directories: [this.#root], names: [], missing: [] };
    const pending = path.split('/').reverse() as ByteString[];
    let hops = 0;
    for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
      const target = step(walk, name);
      if (target === undefined) continue;
      if (++hops > symlinkHopsMax)
        throw new EntryFault('CORRUPT', `more than ${symlinkHopsMax} symlinks are on its way`);
      if (target.startsWith('/')) {
        walk.directories.length = 1;
        walk.names.length = 0;
      }
      const components = target.split('/') as ByteString[];
      this.#budget.addSymlinkSteps(components.length);
      for (let i = components.length - 1; i >= 0; i--) pending.push(components[i]!);
    }
    return walk;
  }
}

/** Goes one component on; gives the target if it is a symlink. */
function step(walk: Walk, name: ByteString): ByteString | undefined {
  if (name === '' || name === '.') return undefined;
  if (name === '..') {
    if (walk.missing.pop() === undefined && walk.names.pop() !== undefined) walk.directories.pop();
    return undefined;
  }
  const inode = walk.missing.length === 0 ? directoryOf(walk).entries.get(name) : undefined;
  if (inode?.kind === 'symlink') return inode.target;
  if (walk.names.length + walk.missing.length + 1 >= treeDepthMax)
    throw new EntryFault('LIMIT', `it lies more than ${treeDepthMax} directories deep`);
  if (inode?.kind === 'directory') {
    walk.directories.push(inode);
    walk.names.push(name);
  } else walk.missing.push(name);
  return undefined;
}

/** No layer says anything of it; the time is fixed so that the tree depends on the image alone. */
export function impliedDirectory(): Directory {
  return {
    kind: 'directory',
    mode: 0o755,
    uid: 0,
    gid: 0,
    mtimeSeconds: 0,
    mtimeNanoseconds: 0,
    xattrs: noXattrs,
    entries: new Map(),
  };
}
