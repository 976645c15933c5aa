/**
 * What the layers above claim of those below, while layers are read from the top down.
 *
 * A guess by the paths as they are written: entries that reach their place through a symlink are
 * not seen through. It only decides which contents are worth handing on at first sight; the tree is
 * built by the exact rules afterwards.
 */

import type { ByteString } from '../../base/byte-string.ts';
import type { Budget } from './budget.ts';
import type { LayerRecord } from './layer-record.ts';

interface Node {
  /** The path itself is taken from lower layers' files. */
  self: boolean;
  /** All beneath it is. */
  below: boolean;
  children: Map<string, Node> | undefined;
}

export class Claims {
  readonly #root: Node = newNode();
  readonly #budget: Budget;

  constructor(budget: Budget) {
    this.#budget = budget;
  }

  /** Only after the whole layer was read: a layer hides nothing of its own. */
  add(record: LayerRecord): void {
    const node = this.#nodeOf(record.path);
    const directory = record.kind === 'inode' && record.inode.kind === 'directory';
    if (record.kind !== 'opaque') node.self = true;
    if (!directory) node.below = true;
  }

  /** True if a file at this path is most likely hidden by what was added. */
  hides(path: ByteString): boolean {
    let node = this.#root;
    for (let start = 0; start <= path.length; ) {
      if (node.below) return true;
      const slash = path.indexOf('/', start);
      const end = slash < 0 ? path.length : slash;
      const child = node.children?.get(path.slice(start, end));
      if (child === undefined) return false;
      node = child;
      start = end + 1;
    }
    return node.self;
  }

  #nodeOf(path: ByteString): Node {
    let node = this.#root;
    if (path === '') return node;
    for (const name of path.split('/')) {
      node.children ??= new Map();
      let child = node.children.get(name);
      if (child === undefined) {
        this.#budget.addClaim();
        child = newNode();
        node.children.set(name, child);
      }
      node = child;
    }
    return node;
  }
}

function newNode(): Node {
  return { self: false, below: false, children: undefined };
}
