/** Trees of every kind of inode with awkward names, times, ids, sizes and attributes, by seed. */

import type { ByteString } from '../../src/base/byte-string.ts';
import { KiB } from '../../src/base/limits.ts';
import type { Directory, Inode } from '../../src/tree/tree.ts';
import { type Given, type PlacedTree, TreeMaker } from './disk-file.ts';
import type { Random } from './random.ts';

const labels = ['system_u:object_r:bin_t:s0', 'system_u:object_r:lib_t:s0', ''];
const nameBytes = Array.from({ length: 255 }, (_, i) => String.fromCharCode(i + 1)).filter(
  byte => byte !== '/',
);

export function randomTree(random: Random, inodesMax: number): PlacedTree {
  const maker = new TreeMaker();
  const root = maker.directory({}, randomAttributes(random));
  const directories: Directory[] = [root];
  const others: Inode[] = [];
  const inodes = random.below(inodesMax);
  for (let i = 0; i < inodes; i++) {
    const parent = random.pick(directories);
    const linked = others.length > 0 && random.chance(0.1) ? random.pick(others) : undefined;
    const inode = linked ?? randomInode(maker, random);
    // A name given again drops what it was, with all below it.
    parent.entries.set(randomName(random), inode);
    if (inode.kind === 'directory') directories.push(inode);
    else others.push(inode);
  }
  return { tree: { root }, contents: maker.contents };
}

function randomName(random: Random): ByteString {
  const length = random.chance(0.05) ? random.between(200, 255) : random.between(1, 20);
  let name = '';
  for (let i = 0; i < length; i++)
    name += random.chance(0.8) ? random.text(1, 'abc!-.+~Z') : random.pick(nameBytes);
  return (name === '.' || name === '..' ? 'dot' : name) as ByteString;
}

function randomInode(maker: TreeMaker, random: Random): Inode {
  const given = randomAttributes(random);
  const kind = random.below(10);
  if (kind < 3) return maker.directory({}, withUserXattrs(random, given));
  if (kind < 6) return maker.file(random.bytes(randomSize(random)), withUserXattrs(random, given));
  if (kind === 6) return maker.symlink(random.text(random.between(1, 100), 'abc/.'), given);
  if (kind === 7) return maker.fifo(given);
  if (kind === 8) {
    const type = random.chance(0.5) ? 'character-device' : 'block-device';
    return maker.device(type, random.below(4096), random.below(1 << 20), given);
  }
  return randomSparse(maker, random, withUserXattrs(random, given));
}

/** Linux shows them on regular files and directories alone. */
function withUserXattrs(random: Random, given: Given): Given {
  const xattrs = new Map(given.xattrs);
  addXattrs(random, xattrs, 'user.');
  return { ...given, xattrs };
}

function addXattrs(random: Random, xattrs: Map<ByteString, Uint8Array>, namespace: string): void {
  while (random.chance(0.2)) {
    const name = `${namespace}${random.text(random.between(1, 30), 'xyz')}` as ByteString;
    xattrs.set(name, random.bytes(random.below(random.chance(0.1) ? 5000 : 50)));
  }
}

function randomSize(random: Random): number {
  return random.pick([0, random.below(600), random.below(20 * KiB), 4096, 512, 513, 8192]);
}

function randomSparse(maker: TreeMaker, random: Random, given: Given): Inode {
  const sizeBytes = random.between(1, 1024 * KiB);
  const runs = [];
  const data: Buffer[] = [];
  for (let at = random.below(300 * KiB); at < sizeBytes; at += random.below(300 * KiB)) {
    const lengthBytes = Math.min(sizeBytes - at, random.between(1, 20 * KiB));
    runs.push({ offsetBytes: at, lengthBytes });
    data.push(random.bytes(lengthBytes));
    at += lengthBytes;
  }
  return maker.sparse(sizeBytes, runs, Buffer.concat(data), given);
}

function randomAttributes(random: Random): Given {
  const xattrs = new Map<ByteString, Uint8Array>();
  if (random.chance(0.3))
    xattrs.set('security.selinux' as ByteString, Buffer.from(`${random.pick(labels)}\0`));
  addXattrs(random, xattrs, 'trusted.');
  const clamped = random.chance(0.6);
  return {
    mode: random.below(0o10000),
    uid: random.chance(0.8) ? random.below(3) : random.u32(),
    gid: random.chance(0.8) ? random.below(3) : random.u32(),
    mtimeSeconds: clamped ? 1_600_000_000 : random.u32() - 2 ** 31,
    mtimeNanoseconds: clamped ? 0 : random.below(1e9),
    xattrs,
  };
}
