/**
 * The rules of applying layers, one case each, with what umoci makes of it: it agrees, it refuses
 * the layer, or it differs in exactly the listed ways, which are ours by choice.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ImgstoreError } from '../../../src/base/errors.ts';
import { flattenImage } from '../../../src/oci/layer/flatten.ts';
import { ContentKeeper, MemoryImage } from '../../support/memory-image.ts';
import { type LayerEntry, TarBuilder, tarOf } from '../../support/tar-builder.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { listing } from '../../support/tree-listing.ts';
import { compareTreeToFolder, umociUnpack } from '../../support/umoci.ts';

type Layer = LayerEntry[] | Buffer;

interface Case {
  layers: Layer[];
  /** The listing of the tree, or the error. */
  gives: Record<string, string> | RegExp;
  /** Without it umoci gives the same. 'accepts': it unpacks what is an error here. */
  umoci?: 'refuses' | 'accepts' | { differs: string[] };
}

const file = (path: string, content: string, more: Partial<LayerEntry> = {}): LayerEntry => ({
  path,
  content,
  ...more,
});
const dir = (path: string, more: Partial<LayerEntry> = {}): LayerEntry => ({
  path,
  type: 'directory',
  ...more,
});
const symlink = (path: string, target: string): LayerEntry => ({ path, type: 'symlink', target });
const link = (path: string, target: string): LayerEntry => ({ path, type: 'hard-link', target });
const whiteout = (path: string): LayerEntry => ({ path });

const base: LayerEntry[] = [
  dir('d/', { mode: 0o700 }),
  file('d/one', '1'),
  dir('d/sub/'),
  file('d/sub/two', '2'),
  file('f', 'lower'),
  symlink('s', 'd'),
];
const baseListing = {
  d: 'dir',
  'd/one': "'1'",
  'd/sub': 'dir',
  'd/sub/two': "'2'",
  f: "'lower'",
  s: '→ d',
};

/** The listing of `base` without some paths and with others. */
function baseBut(without: string[], more: Record<string, string> = {}): Record<string, string> {
  const kept = Object.entries(baseListing).filter(
    ([path]) => !without.some(gone => path === gone || path.startsWith(`${gone}/`)),
  );
  return { ...Object.fromEntries(kept), ...more };
}

const cases: Record<string, Case> = {
  'a directory over a directory keeps the children': {
    layers: [base, [dir('d/', { mode: 0o711, uid: 5, xattrs: { 'user.new': '1' } })]],
    gives: baseListing,
  },
  'a file over a directory': {
    layers: [base, [file('d', 'upper')]],
    gives: baseBut(['d'], { d: "'upper'" }),
  },
  'a directory over a file': {
    layers: [base, [dir('f/'), file('f/x', 'x')]],
    gives: baseBut(['f'], { f: 'dir', 'f/x': "'x'" }),
  },
  'a directory over a symlink to a directory': {
    layers: [base, [dir('s/'), file('s/x', 'x')]],
    gives: baseBut(['s'], { s: 'dir', 's/x': "'x'" }),
  },
  'a file over a symlink': {
    layers: [base, [file('s', 'x')]],
    gives: baseBut(['s'], { s: "'x'" }),
  },
  'a whiteout of a file': { layers: [base, [whiteout('.wh.f')]], gives: baseBut(['f']) },
  'a whiteout of a directory': { layers: [base, [whiteout('.wh.d')]], gives: baseBut(['d']) },
  'a whiteout of a symlink': { layers: [base, [whiteout('.wh.s')]], gives: baseBut(['s']) },
  'a whiteout of nothing, and in nothing': {
    layers: [base, [whiteout('.wh.none'), whiteout('no/where/.wh.x'), whiteout('f/.wh.x')]],
    gives: baseListing,
  },
  'a whiteout in the bottom layer': {
    layers: [[file('a', ''), whiteout('.wh.b')]],
    gives: { a: "''" },
  },
  'a whiteout after the file of its own layer': {
    layers: [base, [file('f', 'upper'), whiteout('.wh.f')]],
    gives: baseBut(['f'], { f: "'upper'" }),
  },
  'a whiteout before the file of its own layer': {
    layers: [base, [whiteout('.wh.f'), file('f', 'upper')]],
    gives: baseBut(['f'], { f: "'upper'" }),
  },
  'a whiteout before the directory of its own layer': {
    layers: [base, [whiteout('.wh.d'), dir('d/'), file('d/new', 'n')]],
    gives: baseBut(['d'], { d: 'dir', 'd/new': "'n'" }),
  },
  'a whiteout after the directory of its own layer': {
    layers: [base, [dir('d/'), file('d/sub/new', 'n'), whiteout('.wh.d')]],
    gives: baseBut(['d'], { d: 'dir', 'd/sub': 'dir', 'd/sub/new': "'n'" }),
  },
  'a whiteout through a symlink': {
    layers: [base, [whiteout('s/.wh.one')]],
    gives: baseBut(['d/one']),
  },
  'a whiteout that is a directory': { layers: [base, [dir('.wh.d/')]], gives: baseBut(['d']) },
  'a whiteout of a name of 255 bytes': {
    layers: [[file('n'.repeat(255), 'x'), file('k', 'k')], [whiteout(`.wh.${'n'.repeat(255)}`)]],
    gives: { k: "'k'" },
  },
  'a whiteout of no name': {
    layers: [base, [whiteout('d/.wh.')]],
    gives: /no name/,
    umoci: 'refuses',
  },
  'a whiteout of .': { layers: [base, [whiteout('d/.wh..')]], gives: /no name/, umoci: 'refuses' },
  'a whiteout of ..': {
    layers: [base, [whiteout('d/.wh...')]],
    gives: /no name/,
    umoci: 'refuses',
  },
  'an entry inside a whiteout': {
    layers: [base, [file('.wh.d/x', 'x')]],
    gives: /inside a whiteout/,
    umoci: 'accepts',
  },
  'an opaque directory before its entries': {
    layers: [base, [dir('d/'), whiteout('d/.wh..wh..opq'), file('d/new', 'n')]],
    gives: baseBut(['d'], { d: 'dir', 'd/new': "'n'" }),
  },
  'an opaque directory after its entries': {
    layers: [base, [file('d/new', 'n'), file('d/sub/new', 'n'), whiteout('d/.wh..wh..opq')]],
    gives: baseBut(['d'], { d: 'dir', 'd/new': "'n'", 'd/sub': 'dir', 'd/sub/new': "'n'" }),
  },
  'an opaque root': {
    layers: [base, [file('new', 'n'), whiteout('.wh..wh..opq')]],
    gives: { new: "'n'" },
  },
  'an opaque directory that is not there': {
    layers: [base, [whiteout('none/.wh..wh..opq'), whiteout('f/.wh..wh..opq')]],
    gives: baseListing,
  },
  'what AUFS left behind': {
    layers: [
      base,
      [dir('.wh..wh.plnk/'), file('.wh..wh.plnk/12.34', 'x'), file('.wh..wh.aufs', '')],
    ],
    gives: baseListing,
    umoci: { differs: ['./.wh..wh.plnk: only in the folder'] },
  },
  'missing parents': {
    layers: [[file('a/b/c', 'x')]],
    gives: { a: 'dir', 'a/b': 'dir', 'a/b/c': "'x'" },
  },
  'parents that are in a lower layer': {
    layers: [base, [file('d/sub/new', 'n')]],
    gives: baseBut([], { 'd/sub/new': "'n'" }),
  },
  'a parent that is a file': {
    layers: [base, [file('f/x', 'x')]],
    gives: /entry f\/x: f on its way is not a directory/,
    umoci: 'refuses',
  },
  'a parent that is a symlink': {
    layers: [base, [file('s/x', 'x')]],
    gives: baseBut([], { 'd/x': "'x'" }),
  },
  'symlinks that climb and start at the root stay inside': {
    layers: [
      [dir('in/'), symlink('in/up', '../../../etc'), symlink('in/abs', '/etc')],
      [file('in/up/x', 'x'), file('in/abs/y', 'y')],
    ],
    gives: {
      in: 'dir',
      'in/abs': '→ /etc',
      'in/up': '→ ../../../etc',
      etc: 'dir',
      'etc/x': "'x'",
      'etc/y': "'y'",
    },
  },
  'a parent that is a symlink to nothing': {
    layers: [[symlink('s', 'no/../where'), file('s/x', 'x')]],
    gives: { s: '→ no/../where', where: 'dir', 'where/x': "'x'" },
  },
  'symlinks in a circle': {
    layers: [[symlink('a', 'b'), symlink('b', 'a'), file('a/x', 'x')]],
    gives: /symlinks are on its way/,
    umoci: 'refuses',
  },
  'a symlink that is replaced between two entries': {
    layers: [
      [dir('one/'), dir('two/'), symlink('s', 'one'), file('s/x', '1')],
      [file('s/y', '2'), symlink('s', 'two'), file('s/z', '3')],
    ],
    gives: {
      one: 'dir',
      'one/x': "'1'",
      'one/y': "'2'",
      s: '→ two',
      two: 'dir',
      'two/z': "'3'",
    },
  },
  'the last of several entries': {
    layers: [[file('a', '1'), file('a', '2'), dir('a/'), file('a', '3')]],
    gives: { a: "'3'" },
  },
  'a hard link in the layer': {
    layers: [[file('a', 'x'), link('b', 'a'), link('c', './b')]],
    gives: { a: "'x'", b: '= a', c: '= a' },
  },
  'a hard link to a lower layer': {
    layers: [base, [link('d/again', 's/one')]],
    gives: baseBut([], { 'd/again': "'1'", 'd/one': '= d/again' }),
  },
  'one name of several replaced': {
    layers: [[file('a', 'old'), link('b', 'a')], [file('a', 'new')]],
    gives: { a: "'new'", b: "'old'" },
  },
  'a hard link to a file that its layer removes': {
    layers: [[file('a', 'x')], [link('b', 'a'), whiteout('.wh.a')]],
    gives: { b: "'x'" },
  },
  'a hard link over a directory': {
    layers: [base, [link('d', 'f')]],
    gives: baseBut(['d', 'f'], { d: "'lower'", f: '= d' }),
  },
  'a hard link to a symlink': {
    layers: [[symlink('s', 'none'), { ...link('t', 's'), mode: 0o777 }]],
    gives: { s: '→ none', t: '= s' },
  },
  'a hard link to what comes later in the layer': {
    layers: [[link('b', 'a'), file('a', 'x')]],
    gives: { a: "'x'", b: '= a' },
    umoci: 'refuses',
  },
  'a hard link that a later entry replaces before its target comes': {
    layers: [[link('b', 'a'), file('b', 'own'), file('a', 'x')]],
    gives: { a: "'x'", b: "'own'" },
    umoci: 'refuses',
  },
  'a hard link to nothing': {
    layers: [[link('b', 'none')]],
    gives: /entry b: it links to none, which is not there/,
    umoci: 'refuses',
  },
  'a hard link to what its own layer removed before': {
    layers: [[file('a', 'x')], [whiteout('.wh.a'), link('b', 'a')]],
    gives: /entry b: it links to a, which is not there/,
    umoci: 'refuses',
  },
  'a hard link below what it replaces': {
    layers: [base, [link('d', 'd/one')]],
    gives: /entry d: it links to d\/one, which is not there/,
    umoci: 'refuses',
  },
  'a hard link to a directory': {
    layers: [base, [link('b', 'd')]],
    gives: /hard link to directory d/,
    umoci: 'refuses',
  },
  'a hard link to the root': {
    layers: [base, [link('b', '/')]],
    gives: /hard link to directory/,
    umoci: 'refuses',
  },
  'a hard link to itself': {
    layers: [base, [link('f', 'f')]],
    gives: /hard link to itself/,
    umoci: 'refuses',
  },
  'a file that tar was told to pack twice': {
    layers: [[file('f', 'x'), link('f', 'f')]],
    gives: { f: "'x'" },
    umoci: 'refuses',
  },
  'devices and a FIFO': {
    layers: [
      [
        { path: 'c', type: 'char', major: 1, minor: 3 },
        { path: 'b', type: 'block', major: 4095, minor: 0xfffff },
        { path: 'p', type: 'fifo' },
        link('c2', 'c'),
      ],
    ],
    gives: {
      b: 'block-device 4095:1048575',
      c: 'character-device 1:3',
      c2: '= c',
      p: 'fifo',
    },
  },
  'a device 0:0 hides what is below and is not there itself': {
    layers: [base, [{ path: 'f', type: 'char' }]],
    gives: baseBut(['f']),
    umoci: { differs: ['./f: only in the folder'] },
  },
  'a device that Linux cannot number': {
    layers: [[{ path: 'c', type: 'char', major: 4096 }]],
    gives: /no device 4096:0/,
    umoci: 'accepts',
  },
  'names that climb, start at the root, or are not clean': {
    layers: [
      [file('../../etc/x', '1'), file('/abs', '2'), file('a/./b//../c', '3'), dir('./e/.//')],
    ],
    gives: { a: 'dir', 'a/c': "'3'", abs: "'2'", e: 'dir', etc: 'dir', 'etc/x': "'1'" },
  },
  "the root's own attributes": {
    layers: [[dir('./', { mode: 0o711, uid: 7, mtimeSeconds: 77, xattrs: { 'user.r': 'r' } })]],
    gives: {},
  },
  'a root that is no directory': {
    layers: [base, [file('./', 'x')]],
    gives: /replace the root directory/,
    umoci: 'refuses',
  },
  'a root that is a hard link': {
    layers: [base, [link('/', 'f')]],
    gives: /replace the root directory/,
    umoci: 'refuses',
  },
  'no name at all': {
    layers: [new TarBuilder().entry({ name: '', mode: 0o600 }).end()],
    gives: /its name is empty/,
    umoci: 'refuses',
  },
  'a symlink to nowhere': {
    layers: [[symlink('s', '')]],
    gives: /symlink without a target/,
    umoci: 'refuses',
  },
  'a name longer than Linux can use': {
    layers: [[file('n'.repeat(256), 'x')]],
    gives: /more than 255 bytes/,
    umoci: 'refuses',
  },
  'a path longer than Linux can use': {
    layers: [[file('abcdefg/'.repeat(513), 'x')]],
    gives: /more than 4096 bytes/,
    umoci: 'refuses',
  },
  'a symlink target longer than Linux can use': {
    layers: [[symlink('s', 't'.repeat(4096))]],
    gives: /target has more than 4095 bytes/,
    umoci: 'refuses',
  },
  'xattrs of files and directories': {
    layers: [
      [
        file('f', 'x', {
          xattrs: {
            'user.x': Buffer.from([0, 255, 10]),
            'security.capability': Buffer.from('0100000200200000000000000000000000000000', 'hex'),
            'trusted.t': 't',
          },
        }),
        dir('d/', { xattrs: { 'user.d': 'd' } }),
      ],
      [dir('d/', { xattrs: { 'user.e': 'e' } })],
    ],
    gives: { d: 'dir', f: "'x'" },
  },
  "overlayfs's own xattrs and those of other systems are left out": {
    layers: [[file('f', 'x', { xattrs: { 'trusted.overlay.opaque': 'y', 'com.apple.x': '1' } })]],
    gives: { f: "'x'" },
  },
  'an SELinux label': {
    layers: [[file('f', 'x', { xattrs: { 'security.selinux': 'label' } })]],
    gives: { f: "'x'" },
    umoci: { differs: ['./f: xattrs: tree security.selinux=6c6162656c, folder '] },
  },
  'user xattrs where Linux has none': {
    layers: [[{ ...symlink('s', 'x'), xattrs: { 'user.x': '1', 'trusted.t': '2' } }]],
    gives: { s: '→ x' },
    umoci: 'refuses',
  },
  'an empty layer': { layers: [base, Buffer.alloc(1024), Buffer.alloc(0)], gives: baseListing },
  'an owner that Linux cannot number': {
    layers: [
      new TarBuilder()
        .pax([['uid', '4294967296']])
        .entry({ name: 'a' })
        .end(),
    ],
    gives: /no owner 4294967296/,
    umoci: 'accepts',
  },
};

for (const [name, { layers, gives, umoci }] of Object.entries(cases)) {
  test(name, async context => {
    const tars = layers.map(layer => (Buffer.isBuffer(layer) ? layer : tarOf(layer)));
    const since = BigInt(Math.floor(Date.now() / 1000)) * 1_000_000_000n;
    const theirs = await umociUnpack(temporaryFolder(context), tars);
    assert.equal('error' in theirs, umoci === 'refuses', `umoci: ${JSON.stringify(theirs)}`);
    const contents = new ContentKeeper();
    const flattening = flattenImage(new MemoryImage(tars), contents);
    if (gives instanceof RegExp) {
      const expected = (error: unknown) =>
        error instanceof ImgstoreError && gives.test(error.message);
      await assert.rejects(flattening, expected);
      return;
    }
    const tree = await flattening;
    assert.deepEqual(listing(tree, contents), gives);
    if (!('rootfs' in theirs)) return;
    assert.deepEqual(
      compareTreeToFolder(tree, contents, theirs.rootfs, { directoryTimesSince: since }),
      typeof umoci === 'object' ? umoci.differs : [],
    );
  });
}
