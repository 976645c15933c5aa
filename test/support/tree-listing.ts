/** A tree as lines that a test can spell out. */

import { byteString, printable } from '../../src/base/byte-string.ts';
import { type Inode, sortedEntries, type Tree } from '../../src/tree/tree.ts';
import type { ContentKeeper } from './memory-image.ts';

/** Path to what is there: `'content'`, `→ target`, `dir`, `= path` for a later name of an inode. */
export function listing(tree: Tree, contents: ContentKeeper): Record<string, string> {
  const lines: Record<string, string> = {};
  const first = new Map<Inode, string>();
  const pending: [string, Inode][] = [['', tree.root]];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const [path, inode] = next;
    const known = first.get(inode);
    if (path !== '') lines[path] = known === undefined ? describe(inode, contents) : `= ${known}`;
    if (known === undefined) first.set(inode, path);
    if (inode.kind !== 'directory') continue;
    const below = sortedEntries(inode).map(([name, child]): [string, Inode] => [
      path === '' ? printable(name) : `${path}/${printable(name)}`,
      child,
    ]);
    pending.push(...below.reverse());
  }
  return lines;
}

function describe(inode: Inode, contents: ContentKeeper): string {
  if (inode.kind === 'directory') return 'dir';
  if (inode.kind === 'file') return `'${byteString(contents.bytes(inode.content))}'`;
  if (inode.kind === 'symlink') return `→ ${printable(inode.target)}`;
  return inode.kind === 'fifo' ? 'fifo' : `${inode.kind} ${inode.major}:${inode.minor}`;
}

/** The inode at a path of the tree; symlinks are not followed. */
export function inodeAt(tree: Tree, path: string): Inode {
  let inode: Inode = tree.root;
  for (const name of path.split('/')) {
    if (name === '') continue;
    if (inode.kind !== 'directory') throw new Error(`${path} leads through a ${inode.kind}`);
    const child = inode.entries.get(byteString(Buffer.from(name, 'latin1')));
    if (child === undefined) throw new Error(`there is no ${path}`);
    inode = child;
  }
  return inode;
}
