/** What goes to the sink and when; what is read twice; errors, warnings, progress, bounds. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ImgstoreError } from '../../../src/base/errors.ts';
import { type FlattenProgress, flattenImage } from '../../../src/oci/layer/flatten.ts';
import type { SourceImage } from '../../../src/oci/source-image.ts';
import type { ContentSink, FileContent, Tree } from '../../../src/tree/tree.ts';
import { regularFiles } from '../../../src/tree/walk.ts';
import { ContentKeeper, MemoryImage } from '../../support/memory-image.ts';
import { seeded } from '../../support/random.ts';
import { randomImage } from '../../support/random-layers.ts';
import { type LayerEntry, TarBuilder, tarOf } from '../../support/tar-builder.ts';
import { inodeAt, listing } from '../../support/tree-listing.ts';

async function flatten(layers: (LayerEntry[] | Buffer)[], bufferBytes = 1000) {
  const tars = layers.map(layer => (Buffer.isBuffer(layer) ? layer : tarOf(layer)));
  const image = new MemoryImage(tars, { bufferBytes });
  const contents = new ContentKeeper();
  const warnings: string[] = [];
  const tree = await flattenImage(image, contents, { onWarning: line => warnings.push(line) });
  return { tree, contents, warnings, opened: image.opened };
}

/** The contents that the sink got, as text; a layer's end as a bar. */
function received(contents: ContentKeeper): string {
  return contents.log
    .map(line =>
      line === 'layer'
        ? '|'
        : contents.stored({ ordinal: Number(line), sizeBytes: 0, runs: undefined }),
    )
    .join(' ');
}

const hidden: LayerEntry[] = [
  { path: 'replaced', content: 'lower-replaced' },
  { path: 'removed', content: 'lower-removed' },
  { path: 'dir/x', content: 'lower-in-removed-dir' },
  { path: 'opaque/x', content: 'lower-in-opaque' },
  { path: 'todir', content: 'lower-todir' },
  { path: 'tofile/x', content: 'lower-tofile' },
  { path: 'kept', content: 'kept' },
  { path: 'merged/kept', content: 'merged' },
];

test('contents that a layer above hides never reach the sink, and nothing is read twice', async () => {
  const { contents, opened } = await flatten([
    hidden,
    [
      { path: 'replaced', content: 'upper-replaced' },
      { path: '.wh.removed' },
      { path: '.wh.dir' },
      { path: 'opaque/.wh..wh..opq' },
      { path: 'todir/', type: 'directory' },
      { path: 'tofile', content: 'upper-tofile' },
      { path: 'merged/', type: 'directory' },
    ],
  ]);
  assert.equal(received(contents), 'upper-replaced upper-tofile | kept merged |');
  assert.deepEqual(opened, [1, 1]);
});

test('a layer hides nothing of its own, and the last of two contents counts', async () => {
  const { tree, contents } = await flatten([
    [],
    [
      { path: 'a', content: 'first' },
      { path: 'a', content: 'second' },
      { path: '.wh.a' },
      { path: '.wh..wh..opq' },
    ],
  ]);
  assert.equal(received(contents), 'first second | |');
  assert.deepEqual(listing(tree, contents), { a: "'second'" });
});

test('a file that is deleted but linked from above is fetched by reading its layer again', async () => {
  const { tree, contents, opened } = await flatten([
    [{ path: 'other', content: 'other' }],
    [
      { path: 'gone', content: 'linked' },
      { path: 'also-gone', content: 'never needed' },
    ],
    [
      { path: 'link', type: 'hard-link', target: 'gone' },
      { path: '.wh.gone' },
      { path: '.wh.also-gone' },
    ],
  ]);
  assert.deepEqual(listing(tree, contents), { link: "'linked'", other: "'other'" });
  assert.deepEqual(opened, [1, 2, 1], 'only that layer');
  assert.equal(received(contents), '| | other | linked |');
});

test('files that were held back for a name that was a symlink are fetched later', async () => {
  const { tree, contents, opened } = await flatten([
    [
      { path: 'd/', type: 'directory' },
      { path: 's', type: 'symlink', target: 'd' },
    ],
    [
      { path: 's/x', content: 'behind s' },
      { path: 's/y', content: 'behind s too' },
    ],
    [{ path: '.wh.s' }],
  ]);
  assert.deepEqual(listing(tree, contents), {
    d: 'dir',
    'd/x': "'behind s'",
    'd/y': "'behind s too'",
  });
  assert.deepEqual(opened, [1, 2, 1]);
});

test('a file that is hidden only through a symlink reaches the sink, and not the tree', async () => {
  const { tree, contents, opened } = await flatten([
    [
      { path: 'usr/lib/x', content: 'lower' },
      { path: 'lib', type: 'symlink', target: 'usr/lib' },
    ],
    [{ path: 'lib/x', content: 'upper' }],
  ]);
  assert.equal(received(contents), 'upper | lower |');
  assert.deepEqual(
    [...regularFiles(tree)].map(file => String(contents.bytes(file.content))),
    ['upper'],
  );
  assert.deepEqual(opened, [1, 1]);
});

test('sparse files reach the sink as their data runs', async () => {
  const tar = new TarBuilder()
    .pax([
      ['GNU.sparse.size', '100000'],
      ['GNU.sparse.numblocks', '2'],
      ['GNU.sparse.map', '10,3,99995,5'],
    ])
    .entry({ name: 'sparse' }, 'abcdefgh')
    .end();
  const { tree, contents } = await flatten([tar]);
  const file = inodeAt(tree, 'sparse');
  assert.ok(file.kind === 'file');
  assert.deepEqual(file.content.runs, [
    { offsetBytes: 10, lengthBytes: 3 },
    { offsetBytes: 99_995, lengthBytes: 5 },
  ]);
  assert.equal(contents.stored(file.content).toString(), 'abcdefgh');
});

test('the tree and what the sink gets depend on the image alone', async () => {
  for (const random of seeded(10)) {
    const { layers } = await randomImage(random, 4, 20);
    const once = await flatten(layers, 1_000_000);
    const again = await flatten(layers, random.between(1, 3000));
    assert.deepEqual(again.tree, once.tree, `seed ${random.seed}`);
    assert.deepEqual(again.contents.log, once.contents.log, `seed ${random.seed}`);
    for (const { content } of regularFiles(once.tree)) once.contents.bytes(content);
  }
});

test("a hard link's own attributes go to the inode, its xattrs are added", async () => {
  const { tree } = await flatten([
    [
      { path: 'a', mode: 0o4755, uid: 1, gid: 1, xattrs: { 'user.a': '1', 'user.b': '1' } },
      { path: 's', type: 'symlink', target: 'a' },
    ],
    [
      {
        path: 'b',
        type: 'hard-link',
        target: 'a',
        mode: 0o600,
        uid: 2,
        gid: 3,
        mtimeSeconds: 4,
        xattrs: { 'user.b': '2' },
      },
      { path: 't', type: 'hard-link', target: 's', uid: 9, xattrs: { 'user.no': 'x' } },
    ],
  ]);
  const { mode, uid, gid, mtimeSeconds, xattrs } = inodeAt(tree, 'a');
  assert.deepEqual([mode, uid, gid, mtimeSeconds], [0o600, 2, 3, 4]);
  assert.deepEqual(
    [...xattrs].map(([name, value]) => `${name}=${value}`),
    ['user.a=1', 'user.b=2'],
  );
  const symlink = inodeAt(tree, 's');
  assert.deepEqual([symlink.mode, symlink.uid, symlink.xattrs.size], [0o777, 9, 0]);
});

test('directories that no layer describes have fixed attributes', async () => {
  const { tree } = await flatten([[{ path: 'a/b/c', content: '' }]]);
  for (const path of ['', 'a', 'a/b']) {
    const { mode, uid, gid, mtimeSeconds, mtimeNanoseconds } = inodeAt(tree, path);
    assert.deepEqual([mode, uid, gid, mtimeSeconds, mtimeNanoseconds], [0o755, 0, 0, 0, 0]);
  }
});

test('the sink holds the source back', async () => {
  const events: string[] = [];
  let open = 0;
  const slow = (name: string) => async (): Promise<void> => {
    assert.equal(open++, 0, 'one call at a time');
    await new Promise(resolve => setImmediate(resolve));
    events.push(name);
    open--;
  };
  const sink: ContentSink = { begin: slow('begin'), write: slow('write'), end: slow('end') };
  await flattenImage(new MemoryImage([tarOf([{ path: 'a', content: 'x' }, { path: 'b' }])]), sink);
  assert.deepEqual(events, ['begin', 'write', 'end', 'begin', 'end']);
});

test('an error of the sink ends it, and the layer is closed', async () => {
  let closed = false;
  const image = new MemoryImage([tarOf([{ path: 'a', content: 'x' }])]);
  const open = image.openLayer.bind(image);
  const watched: SourceImage = Object.assign(image, {
    async *openLayer(index: number, options: { signal?: AbortSignal }) {
      try {
        yield* open(index, options);
      } finally {
        closed = true;
      }
    },
  });
  const sink = new ContentKeeper();
  sink.write = () => {
    throw new Error('the sink is full');
  };
  await assert.rejects(flattenImage(watched, sink), /the sink is full/);
  assert.ok(closed);
});

test('an abort ends it', async () => {
  const controller = new AbortController();
  const sink = new ContentKeeper();
  sink.begin = () => {
    controller.abort(new Error('no more of this'));
    return undefined;
  };
  sink.end = () => undefined;
  const tar = tarOf([{ path: 'a' }, { path: 'b', content: 'x'.repeat(5000) }]);
  const image = new MemoryImage([tar], { bufferBytes: 512 });
  const flattening = flattenImage(image, sink, { signal: controller.signal });
  await assert.rejects(flattening, /no more of this/);
});

test('progress counts layers and bytes', async () => {
  const layers = [
    tarOf([{ path: 'a' }]),
    tarOf([{ path: 'b', content: Buffer.alloc(20_000_000) }]),
  ];
  const seen: FlattenProgress[] = [];
  await flattenImage(new MemoryImage(layers, { bufferBytes: 1 << 20 }), new ContentKeeper(), {
    onProgress: progress => seen.push(progress),
  });
  assert.ok(seen.length >= 4);
  assert.deepEqual(seen[0]!.layer, 1);
  const tarBytes = layers[0]!.length + layers[1]!.length;
  assert.deepEqual(seen.at(-1), { layer: 2, layers: 2, tarBytes });
});

test('what the tree cannot hold is told, a few times each', async () => {
  const entries = Array.from(
    { length: 10 },
    (_, i): LayerEntry => ({ path: `dev/${i}`, type: 'char' }),
  );
  const odd: LayerEntry = {
    path: 'odd\xff',
    xattrs: { 'trusted.overlay.redirect': 'x', 'user.kept': 'x', 'nfs4.acl': 'x' },
  };
  const link: LayerEntry = {
    path: 'link',
    type: 'symlink',
    target: 'x',
    xattrs: { 'user.x': 'x' },
  };
  const { tree, warnings } = await flatten([[...entries, odd, link]]);
  assert.deepEqual(warnings, [
    'device 0:0 at dev/0 is left out',
    'device 0:0 at dev/1 is left out',
    'device 0:0 at dev/2 is left out',
    'extended attribute trusted.overlay.redirect of odd\\xff is left out: it belongs to overlayfs',
    'extended attribute nfs4.acl of odd\\xff is left out: Linux has no such namespace',
    'extended attribute user.x of link is left out: this kind of file cannot have it',
    '7 more like this: devices 0:0',
  ]);
  assert.deepEqual([...inodeAt(tree, 'odd\xff').xattrs.keys()], ['user.kept']);
});

async function refused(layers: (LayerEntry[] | Buffer)[], code: string, message: RegExp) {
  await assert.rejects(
    flatten(layers),
    error => error instanceof ImgstoreError && error.code === code && message.test(error.message),
  );
}

test('errors name the layer and the path', async () => {
  const bad = new TarBuilder().entry({ name: 'etc/x', type: 'V' }).end();
  const image = new MemoryImage([bad]);
  const expected = `Cannot read layer ${image.layers[0]!.digest}: entry etc/x: tar type "V"`;
  await assert.rejects(flattenImage(image, new ContentKeeper()), (error: Error) =>
    error.message.startsWith(expected),
  );
  const escaped = [{ path: 'a\n\x1b\xff', type: 'hard-link', target: 'no' }] as LayerEntry[];
  await refused(
    [escaped],
    'CORRUPT',
    /^Cannot apply layer sha256:[0-9a-f]{64}: entry a\\n\\u001b\\xff: /,
  );
});

test('xattrs beyond the limits of Linux are refused', async () => {
  const withXattr = (name: string, value: Buffer): LayerEntry[] => [
    { path: 'a', xattrs: { [name]: value } },
  ];
  await refused([withXattr(`user.${'n'.repeat(251)}`, Buffer.from('x'))], 'LIMIT', /too long/);
  await refused([withXattr('user.x', Buffer.alloc(65_536, 1))], 'LIMIT', /user\.x is too large/);
  await refused([withXattr('', Buffer.from('x'))], 'CORRUPT', /malformed/);
  await refused([withXattr('user.\0', Buffer.from('x'))], 'CORRUPT', /malformed/);
  const many = Object.fromEntries(
    Array.from({ length: 300 }, (_, i) => [`user.${'n'.repeat(240)}${i}`, 'x']),
  );
  await refused([[{ path: 'a', xattrs: many }]], 'LIMIT', /too many extended attributes/);
});

test('symlinks cannot lead deeper than a tree may be', async () => {
  const deep = (n: number) => 'd/'.repeat(n);
  const entries: LayerEntry[] = [
    { path: deep(1500), type: 'directory' },
    { path: 's', type: 'symlink', target: deep(1500) },
  ];
  await flatten([[...entries, { path: `s/${deep(500)}x` }]]);
  await refused(
    [[...entries, { path: `s/${deep(600)}x` }]],
    'LIMIT',
    /more than 2048 directories deep/,
  );
});

test('a layer that is another one at its second reading is refused', async () => {
  const layers: LayerEntry[][] = [
    [{ path: 'gone', content: 'linked' }],
    [{ path: 'link', type: 'hard-link', target: 'gone' }, { path: '.wh.gone' }],
  ];
  for (const second of [[], [{ path: 'gone', content: 'shorter' }]] as LayerEntry[][]) {
    const image = new MemoryImage(layers.map(tarOf));
    const other = new MemoryImage([tarOf(second)]);
    const open = image.openLayer.bind(image);
    const changing = Object.assign(image, {
      openLayer: (index: number, options: { signal?: AbortSignal }) =>
        index === 0 && image.opened[0]! > 0 ? other.openLayer(0, options) : open(index, options),
    });
    await assert.rejects(
      flattenImage(changing, new ContentKeeper()),
      error => error instanceof ImgstoreError && /it has changed/.test(error.message),
    );
  }
});

test('a FileContent is one object however often its layer is read', async () => {
  const seen: FileContent[] = [];
  const sink: ContentSink = {
    begin: content => {
      seen.push(content);
      return undefined;
    },
    write: () => undefined,
    end: () => undefined,
  };
  const image = new MemoryImage([
    tarOf([{ path: 'gone', content: 'x' }]),
    tarOf([{ path: 'link', type: 'hard-link', target: 'gone' }, { path: '.wh.gone' }]),
  ]);
  const tree: Tree = await flattenImage(image, sink);
  assert.deepEqual(
    [...regularFiles(tree)].map(file => file.content),
    seen,
  );
});
