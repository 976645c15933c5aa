/**
 * Random images for the flattener: few names, so that entries meet; every kind of entry, whiteouts,
 * symlinked parents, hard links across layers. Every image is one that can be applied.
 */

import { bytesOf } from '../../src/base/byte-string.ts';
import { ImgstoreError } from '../../src/base/errors.ts';
import { flattenImage } from '../../src/oci/layer/flatten.ts';
import type { Directory, Inode, Tree } from '../../src/tree/tree.ts';
import { ContentKeeper, MemoryImage } from './memory-image.ts';
import type { Random } from './random.ts';
import { type LayerEntry, tarOf } from './tar-builder.ts';

export interface RandomImage {
  layers: Buffer[];
  /** The same image with one entry more, which cannot be applied; if one was met. */
  broken: Buffer[] | undefined;
}

const names = ['a', 'b', 'c', 'lib', 'usr', '\xff\xe4', 'long'.repeat(30)];
const linkTargets = ['a', 'usr', '/usr', '../b', '/', '.', 'a/../b', 'usr/lib', '/no/where', 'lib'];

export async function randomImage(
  random: Random,
  layersMax: number,
  entriesMax: number,
): Promise<RandomImage> {
  const finished: Buffer[] = [];
  let broken: Buffer[] | undefined;
  for (let left = random.between(1, layersMax); left > 0; left--) {
    let entries: LayerEntry[] = [];
    let tree = await flattened(finished);
    for (let count = random.between(1, entriesMax); count > 0; count--) {
      const longer = [...entries, randomEntry(random, tree)];
      const layers = [...finished, tarOf(longer)];
      try {
        tree = await flattened(layers);
        entries = longer;
      } catch (error) {
        if (!(error instanceof ImgstoreError)) throw error;
        broken = layers;
      }
    }
    finished.push(tarOf(entries));
  }
  return { layers: finished, broken };
}

function flattened(layers: Buffer[]): Promise<Tree> {
  return flattenImage(new MemoryImage(layers), new ContentKeeper());
}

function randomEntry(random: Random, tree: Tree): LayerEntry {
  const roll = random.below(100);
  const path = randomPath(random);
  const base = { path: spelled(random, path), ...randomAttributes(random) };
  // What is made below a setgid directory on the way would inherit it on umoci's file system.
  const ofDirectory = { ...base, mode: base.mode & ~0o2000 };
  if (roll < 30) return { ...base, content: random.bytes(random.below(2000)), ...xattrs(random) };
  if (roll < 50)
    return { ...ofDirectory, type: 'directory', path: `${base.path}/`, ...xattrs(random) };
  if (roll < 62) return { ...base, type: 'symlink', target: random.pick(linkTargets) };
  if (roll < 74) return randomHardLink(random, tree, base.path);
  if (roll < 84) return { path: whiteoutOf(path) };
  if (roll < 90) return { path: `${path}/.wh..wh..opq` };
  if (roll < 92) return { path: '.wh..wh..opq' };
  if (roll < 94) return { ...ofDirectory, type: 'directory', path: './' };
  const major = random.between(1, 4095);
  const minor = random.below(1 << 20);
  if (roll < 96) return { ...base, type: 'char', major, minor };
  if (roll < 98) return { ...base, type: 'block', major, minor };
  return { ...base, type: 'fifo' };
}

/** The link says of the inode what the inode says itself: umoci does not apply it. */
function randomHardLink(random: Random, tree: Tree, path: string): LayerEntry {
  let found: [string, Inode][] = [];
  collect(tree.root, '', found);
  // A link to itself is let pass here, and refused by umoci: no name links to its like.
  const last = (of: string) => of.slice(of.lastIndexOf('/') + 1);
  found = found.filter(([target]) => last(target) !== last(path));
  if (found.length === 0) return { path, type: 'hard-link', target: 'nothing' };
  const [target, inode] = random.pick(found);
  const attributes = {
    mode: inode.mode,
    uid: inode.uid,
    gid: inode.gid,
    mtimeSeconds: inode.mtimeSeconds,
    mtimeNanoseconds: inode.mtimeNanoseconds,
    xattrs: Object.fromEntries([...inode.xattrs].map(([k, v]) => [k, Buffer.from(v)])),
  };
  return { path, type: 'hard-link', target: spelled(random, target), ...attributes };
}

function collect(directory: Directory, prefix: string, found: [string, Inode][]): void {
  for (const [name, inode] of directory.entries) {
    const path = prefix + bytesOf(name).toString('latin1');
    if (inode.kind === 'directory') collect(inode, `${path}/`, found);
    else found.push([path, inode]);
  }
}

function randomPath(random: Random): string {
  const depth = random.pick([1, 1, 2, 2, 3, 4]);
  return Array.from({ length: depth }, () => random.pick(names)).join('/');
}

/** The same path in another way of writing it. */
function spelled(random: Random, path: string): string {
  return random.pick([path, path, path, `./${path}`, `/${path}`, `../${path}`, `x/..//${path}`]);
}

function whiteoutOf(path: string): string {
  const slash = path.lastIndexOf('/') + 1;
  return `${path.slice(0, slash)}.wh.${path.slice(slash)}`;
}

function randomAttributes(random: Random) {
  return {
    mode: random.pick([0o644, 0o755, 0o600, 0o4755, 0o2711, 0o1777, 0]),
    uid: random.pick([0, 1, 1000, 70_000, 3_000_000_000]),
    gid: random.pick([0, 5, 65534, 4_294_967_294]),
    mtimeSeconds: random.between(-100_000, 1_500_000_000),
    mtimeNanoseconds: random.pick([0, 0, 1, 999_999_999, 500_000_000]),
  };
}

function xattrs(random: Random): { xattrs?: Record<string, Buffer> } {
  if (random.chance(0.7)) return {};
  const name = random.pick(['user.u', 'trusted.t', 'security.s', 'user.\xffx']);
  return { xattrs: { [name]: random.bytes(random.between(1, 40)), 'user.both': Buffer.from('1') } };
}
