/** A flattener with a memory of layers, as that is promised to it: no push, no store. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ImgstoreError } from '../../../src/base/errors.ts';
import { type FlattenOptions, flattenImage } from '../../../src/oci/layer/flatten.ts';
import { BadMemo, type LayerMemo, type LayerMemos } from '../../../src/oci/layer/layer-memo.ts';
import type { TarEntry } from '../../../src/oci/layer/tar-reader.ts';
import type { OpenLayerOptions, SourceLayer } from '../../../src/oci/source-image.ts';
import type { FileContent } from '../../../src/tree/tree.ts';
import { ContentKeeper, MemoryImage } from '../../support/memory-image.ts';
import { type LayerEntry, tarOf } from '../../support/tar-builder.ts';

/** Keeps the entries of every layer; hands contents over if told to. */
class KeptLayers implements LayerMemos {
  readonly kept = new Map<string, TarEntry[]>();
  readonly wanted: number[] = [];
  delivers = true;
  /** Entries after which a memo turns out bad. */
  badAfter = Number.POSITIVE_INFINITY;

  async has({ digest }: SourceLayer): Promise<boolean> {
    return this.kept.has(digest);
  }

  async open({ digest }: SourceLayer): Promise<LayerMemo | undefined> {
    const entries = this.kept.get(digest);
    let at = 0;
    return (
      entries && {
        next: () => {
          if (at === this.badAfter) throw new BadMemo('it is bad');
          return entries[at] && { ...entries[at++]! };
        },
        want: (content: FileContent) => this.wanted.push(content.ordinal),
        deliver: async () => this.delivers,
      }
    );
  }

  begin({ digest }: SourceLayer) {
    const entries: TarEntry[] = [];
    return {
      entry: (entry: TarEntry) => entries.push({ ...entry }),
      save: async () => {
        this.kept.set(digest, entries);
      },
    };
  }
}

const layers: LayerEntry[][] = [
  [
    { path: 'd', type: 'directory' },
    { path: 'd/a', content: 'a' },
    { path: 'd/hidden', content: 'h', xattrs: { 'odd.x': Buffer.from('1') } },
  ],
  [{ path: 'd/b', content: 'b' }, { path: 'd/.wh.hidden' }],
  [{ path: 'd/c', content: 'c' }],
];

async function flatten(memos: LayerMemos | undefined, options: FlattenOptions = {}) {
  const image = new MemoryImage(layers.map(tarOf));
  const open = image.openLayer.bind(image);
  const ahead: (readonly number[] | undefined)[] = [];
  image.openLayer = (index: number, given: OpenLayerOptions) => {
    ahead[index] = given.ahead;
    return open(index, given);
  };
  const contents = new ContentKeeper();
  const warnings: string[] = [];
  const onWarning = (line: string) => warnings.push(line);
  const tree = await flattenImage(image, contents, { ...options, onWarning, memos });
  return { tree, warnings, opened: image.opened, log: contents.log, contents, ahead };
}

test('remembered layers are not opened; the tree, ordinals and warnings are the same', async () => {
  const memos = new KeptLayers();
  const first = await flatten(memos);
  assert.deepEqual(first.ahead, [[], [0], [1, 0]]);
  assert.deepEqual(memos.wanted, []);
  const progress: number[] = [];
  const second = await flatten(memos, { onProgress: ({ layer }) => progress.push(layer) });
  assert.deepEqual(second.opened, [0, 0, 0]);
  assert.deepEqual(second.log, []);
  assert.deepEqual(memos.wanted, [0, 1, 3]); // 2 is the whiteout
  assert.deepEqual(progress, [1, 2, 3]);
  assert.deepEqual(second.warnings, first.warnings);
  assert.equal(first.warnings.length, 1);
  assert.deepEqual(second.tree, first.tree);
});

test('a layer whose contents the sink cannot take is read for these, and noted again', async () => {
  const memos = new KeptLayers();
  const first = await flatten(memos);
  const kept = new Map(memos.kept);
  memos.delivers = false;
  memos.kept.delete(new MemoryImage(layers.map(tarOf)).layers[1]!.digest);
  const second = await flatten(memos);
  assert.deepEqual(second.opened, [1, 1, 1]);
  assert.deepEqual(second.log, first.log);
  assert.deepEqual(second.warnings, first.warnings);
  assert.deepEqual(second.ahead, [[], [], [1]]);
  assert.deepEqual(memos.kept, kept);
});

test('a memo that turns out bad half-way counts as none', async () => {
  for (const badAfter of [0, 1, 2]) {
    const memos = new KeptLayers();
    const first = await flatten(memos);
    memos.badAfter = badAfter;
    const second = await flatten(memos);
    assert.deepEqual(second.opened, [1, 1, badAfter < 2 ? 1 : 0], `${badAfter}`);
    assert.deepEqual(second.tree, first.tree);
    assert.deepEqual(second.warnings, first.warnings);
  }
});

test('a remembered entry is checked as any other', async () => {
  const memos = new KeptLayers();
  await flatten(memos);
  for (const entries of memos.kept.values()) entries[0]!.uid = -1;
  await assert.rejects(
    flatten(memos),
    error =>
      error instanceof ImgstoreError &&
      /^Cannot read layer sha256:.*: entry d\/c: there is no owner -1$/.test(error.message),
  );
});
