/** Walks of a tree that never recurse: depth is the image author's choice. */

import type { Directory, RegularFile, Tree } from './tree.ts';

/** Every regular file once, hard links notwithstanding, in no promised order. */
export function* regularFiles(tree: Tree): Generator<RegularFile> {
  const seen = new Set<RegularFile>();
  const pending: Directory[] = [tree.root];
  while (pending.length > 0) {
    for (const inode of pending.pop()!.entries.values()) {
      if (inode.kind === 'directory') pending.push(inode);
      if (inode.kind !== 'file' || seen.has(inode)) continue;
      seen.add(inode);
      yield inode;
    }
  }
}
