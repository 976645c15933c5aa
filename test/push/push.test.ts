import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ImgstoreError } from '../../src/base/errors.ts';
import { GiB, MiB } from '../../src/base/limits.ts';
import { DedupSalt } from '../../src/keys/keys.ts';
import { type PushProgress, pushImage } from '../../src/push/push.ts';
import { parseImageName } from '../../src/recipe/name.ts';
import type { CopyingStore } from '../../src/store/copying-store.ts';
import { DirectoryStore } from '../../src/store/directory-store.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { TestCatalog } from '../support/catalogs.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { diskOf, manyBytes, TestImage, targetOn, verdictOn } from '../support/pushing.ts';
import { Random } from '../support/random.ts';
import { otherKey } from '../support/recipes.ts';
import { type LayerEntry, TarBuilder } from '../support/tar-builder.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { WatchedStore } from '../support/watched-store.ts';

function baseLayer(seed: number): LayerEntry[] {
  const random = new Random(seed);
  const small = Array.from({ length: 60 }, (_, i): LayerEntry => {
    return { path: `etc/file-${i}`, content: manyBytes(random, random.below(20_000)) };
  });
  return [
    { path: 'etc', type: 'directory' },
    ...small,
    { path: 'bin/large', content: manyBytes(random, 2_500_000), mode: 0o755 },
    { path: 'bin/zeros', content: Buffer.alloc(500_000) },
    { path: 'bin/link', type: 'symlink', target: 'large' },
  ];
}

function appLayer(seed: number): LayerEntry[] {
  const random = new Random(seed);
  return [
    { path: 'app/main', content: manyBytes(random, 300_000) },
    { path: 'etc/file-3', content: 'changed' },
    { path: 'etc/.wh.file-4', content: '' },
  ];
}

const base = baseLayer(1);

/** Pushes, and fails unless what the name then means is whole. */
async function push(
  store: ObjectStore & CopyingStore,
  name: string,
  image: TestImage,
  changed: Parameters<typeof targetOn>[2] = {},
) {
  const target = await targetOn(store, name, changed);
  const report = await pushImage(image, target);
  const resolved = await target.catalog.open(parseImageName(name));
  assert.equal(resolved.recipeId, report.recipe);
  const verdict = await verdictOn(resolved.recipe, target.roots);
  assert.deepEqual(verdict.faults, []);
  assert.equal(verdict.chunks, report.chunks);
  assert.equal(verdict.storedBytes, report.storedBytes);
  return { report, recipe: resolved.recipe, target };
}

test('an image is pushed whole, and the report says what it took', async () => {
  const store = new MemoryStore();
  const image = new TestImage([base, appLayer(2)]);
  const { report, recipe } = await push(store, 'app:1', image);
  const { details } = recipe;
  assert.equal(report.outcome, 'created');
  assert.equal(report.diskBytes, recipe.diskSizeBytes);
  assert.equal(report.newChunks, report.chunks);
  assert.equal(report.newStoredBytes, report.storedBytes);
  const stored = [...store.objects].filter(([key]) => key.includes('/chunks/'));
  // The chunk that holds the old file-3 is in the base's pack; nothing else is stored for nothing.
  assert.ok(stored.length >= report.chunks && stored.length <= report.chunks + 1);
  const contents = base.filter(({ path }) => !['etc/file-3', 'etc/file-4'].includes(path));
  const expectedBytes = [...contents, { content: 'changed' }, { content: Buffer.alloc(300_000) }]
    .map(({ content }) => content?.length ?? 0)
    .reduce((sum, size) => sum + size, 0);
  assert.equal(report.contentBytes, expectedBytes);
  assert.equal(details.contentBytes, expectedBytes);
  // Files, the link, and the directories /, etc, bin and app.
  assert.equal(details.inodeCount, 59 + 1 + 2 + 1 + 4);
  assert.equal(details.manifestDigest, image.manifestDigest);
  assert.deepEqual(details.platform, image.platform);
  assert.equal(details.configText, '{}');
  assert.equal(details.kind, 'oci');
});

test('one image, one recipe: whatever the store, and however the layers arrive', async context => {
  const results = [];
  for (const bufferBytes of [undefined, 512, 1000, 70_000]) {
    const store =
      bufferBytes === undefined ? new DirectoryStore(temporaryFolder(context)) : new MemoryStore();
    const options = bufferBytes === undefined ? {} : { bufferBytes };
    const image = new TestImage([base, appLayer(2)], options);
    const { report, recipe, target } = await push(store, 'app', image);
    const disk = diskOf(recipe, target.roots);
    results.push({ report, recipe, disk: await disk.readBuffer(0, disk.sizeBytes) });
  }
  for (const { report, recipe, disk } of results) {
    assert.deepEqual(report, results[0]!.report);
    assert.deepEqual(recipe, results[0]!.recipe);
    assert.ok(disk.equals(results[0]!.disk));
  }
});

test('pushed again under its name, nothing is read; under another, nothing is new', async () => {
  const store = new MemoryStore();
  const image = new TestImage([base]);
  const first = await push(store, 'app:1', image);
  const again = await push(store, 'app:1', image);
  assert.deepEqual(image.opened, [1]);
  const none = { newChunks: 0, newStoredBytes: 0 };
  assert.deepEqual(again.report, { ...first.report, outcome: 'unchanged', ...none });
  const puts: string[] = [];
  const watched = new WatchedStore(store, async ({ kind, key }, work) => {
    if (kind === 'put') puts.push(key);
    return work();
  });
  const other = await push(watched, 'app:2', image);
  assert.deepEqual(other.report, { ...first.report, outcome: 'created', ...none });
  assert.ok(!puts.some(key => key.includes('/chunks/')), 'known chunks are not even put');
});

test('what changes between two images is all that a push of the second adds', async () => {
  const store = new MemoryStore();
  await push(store, 'app:1', new TestImage([base, appLayer(2)]));
  const { report } = await push(store, 'app:1', new TestImage([base, appLayer(3)]));
  assert.equal(report.outcome, 'replaced');
  // The app's layer, and metadata.
  assert.ok(report.newStoredBytes < 450_000, `${report.newStoredBytes} new bytes`);
  // Another repository and another salt: nothing is shared with the second.
  const elsewhere = await push(store, 'else', new TestImage([base, appLayer(3)]));
  assert.equal(elsewhere.report.newChunks, 0);
  const salt = new DedupSalt(Buffer.alloc(32, 1));
  const salted = await push(store, 'app:1', new TestImage([base, appLayer(3)]), { salt });
  assert.equal(salted.report.outcome, 'replaced');
  assert.equal(salted.report.newChunks, salted.report.chunks);
});

test('rewriting stores every chunk again, and mends what was damaged', async () => {
  const store = new MemoryStore();
  const image = new TestImage([base]);
  const { report, recipe } = await push(store, 'app', image);
  const [key] = [...store.objects.keys()].filter(name => name.includes('/chunks/'));
  store.objects.get(key!)!.bytes[100]! ^= 1;
  const target = await targetOn(store, 'app');
  assert.equal((await verdictOn(recipe, target.roots)).faults.length, 1);
  const mended = await push(store, 'app', image, { rewrite: true });
  assert.equal(mended.report.outcome, 'unchanged');
  assert.equal(mended.report.newChunks, report.chunks);
});

test('a damaged name or recipe is mended by pushing again', async () => {
  for (const part of ['names/', '/recipes/']) {
    const store = new MemoryStore();
    const image = new TestImage([base]);
    await push(store, 'app', image);
    const key = [...store.objects.keys()].find(name => name.includes(part))!;
    store.objects.get(key)!.bytes.fill(0x20);
    await push(store, 'app', image);
    store.objects.delete(key);
    await push(store, 'app', image);
  }
});

test('the name of another owner is refused before anything is read or written', async () => {
  const store = new MemoryStore();
  const image = new TestImage([base]);
  const { target } = await push(store, 'app', image);
  const before = [...store.objects.keys()];
  const catalog = new TestCatalog(target.roots, otherKey);
  for (const rewrite of [false, true]) {
    const other = new TestImage([baseLayer(9)]);
    await assert.rejects(pushImage(other, { ...target, catalog, rewrite }), { code: 'KEY' });
    assert.deepEqual(other.opened, [0]);
  }
  assert.deepEqual([...store.objects.keys()], before);
});

test('a layer that fails half-way leaves the name, and nothing is put afterwards', async () => {
  const store = new MemoryStore();
  let [begun, ended] = [0, 0];
  const watched = new WatchedStore(store, async (_call, work) => {
    begun++;
    await work();
    await sleep(5);
    ended++;
  });
  const { report } = await push(store, 'app', new TestImage([base]));
  const image = new TestImage([baseLayer(5)], { bufferBytes: 10_000 });
  const { openLayer } = image;
  image.openLayer = async function* (...args) {
    let bytes = 0;
    for await (const buffer of openLayer.apply(image, args)) {
      bytes += buffer.length;
      if (bytes > 1_500_000) throw new ImgstoreError('CORRUPT', 'Cannot read the layer: damaged');
      yield buffer;
    }
  };
  await assert.rejects(push(watched, 'app', image), { code: 'CORRUPT' });
  const begunThen = begun;
  assert.equal(ended, begunThen, 'what was under way is over');
  await sleep(50);
  assert.equal(begun, begunThen, 'nothing began since');
  const target = await targetOn(store, 'app');
  assert.equal((await target.catalog.open(target.name)).recipeId, report.recipe);
});

test('an abort at any time ends the push with its reason', async () => {
  const store = new MemoryStore();
  for (const abortAfter of [0, 1, 5, 12]) {
    const controller = new AbortController();
    const reason = new ImgstoreError('IO', 'Stopped by SIGINT');
    let puts = 0;
    const watched = new WatchedStore(store, async (call, work) => {
      if (call.kind === 'put' && puts++ === abortAfter) controller.abort(reason);
      return work();
    });
    const image = new TestImage([baseLayer(20 + abortAfter)], { bufferBytes: 10_000 });
    const target = await targetOn(store, 'app', { signal: controller.signal });
    const aborting = { ...target, ...pickStores(await targetOn(watched, 'app')) };
    await assert.rejects(pushImage(image, aborting), error => error === reason);
    assert.equal(await target.catalog.record(target.name), undefined);
  }
});

function pickStores({ roots, catalog }: Awaited<ReturnType<typeof targetOn>>) {
  return { roots, catalog };
}

test('progress: every layer, then the commit', async () => {
  const seen: PushProgress[] = [];
  const onProgress = (progress: PushProgress) => seen.push(progress);
  await push(new MemoryStore(), 'app', new TestImage([base, appLayer(2)]), { onProgress });
  const layers = seen.flatMap(event => (event.phase === 'layers' ? [event.layer] : []));
  assert.deepEqual([...new Set(layers)], [1, 2]);
  assert.equal(seen.at(-1)!.phase, 'commit');
});

test('a sparse file of 256 GiB with little data is pushed in no time', async () => {
  const sizeBytes = 256 * GiB;
  const runs = [0, sizeBytes / 2 + 5, sizeBytes - 100].map(offset => [offset, 100]);
  const map = [runs.length, ...runs.flat()].map(number => `${number}\n`).join('');
  const stored = Buffer.alloc(512 + 300, 7);
  stored.fill(0, 0, 512).write(map, 'latin1');
  const records = [
    ['GNU.sparse.major', '1'],
    ['GNU.sparse.minor', '0'],
    ['GNU.sparse.name', 'huge'],
    ['GNU.sparse.realsize', `${sizeBytes}`],
  ] as const;
  const tar = new TarBuilder().pax(records).entry({ name: 'GNUSparseFile.0/huge' }, stored).end();
  const image = new TestImage([]);
  Object.assign(image, { layers: [{ ...new TestImage([base]).layers[0]! }] });
  image.openLayer = async function* () {
    yield tar;
  };
  const { report } = await push(new MemoryStore(), 'huge', image);
  assert.equal(report.contentBytes, sizeBytes);
  // Units of 16 MiB with data are stored as they are, in chunks that are nearly all the same.
  assert.ok(report.diskBytes < 50 * MiB && report.chunks < 10, `${report.chunks} chunks`);
});
