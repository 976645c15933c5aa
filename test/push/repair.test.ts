import assert from 'node:assert/strict';
import { createCipheriv, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, test } from 'node:test';
import type { ChunkId } from '../../src/base/digest.ts';
import { type ErrorCode, ImgstoreError } from '../../src/base/errors.ts';
import { rootSource } from '../../src/cache/store-source.ts';
import { verified } from '../../src/cache/verified.ts';
import type { Resolved } from '../../src/catalog/catalog.ts';
import { verifyImage } from '../../src/image/verify.ts';
import { pushImage } from '../../src/push/push.ts';
import { pushDisk } from '../../src/push/push-disk.ts';
import { type RepairReport, type RepairSource, repairImage } from '../../src/push/repair.ts';
import type { ChunkSegment, Recipe } from '../../src/recipe/recipe.ts';
import { codecPlain } from '../../src/seal/format.ts';
import { chunkIdOf } from '../../src/seal/seal.ts';
import { chunkObjectKey } from '../../src/store/format.ts';
import type { Root, Roots } from '../../src/store/roots.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { diskOf, manyBytes, TestImage, targetOn } from '../support/pushing.ts';
import { Random, seeded } from '../support/random.ts';
import { ownerKey } from '../support/recipes.ts';
import { assertSameBytes } from '../support/same-bytes.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { WatchedStore } from '../support/watched-store.ts';

const random = new Random(3);
const text = Buffer.from(
  'What is written here can be made much smaller than it is.\n'.repeat(9000),
);
const image = new TestImage([
  [
    { path: 'dir', type: 'directory' },
    ...Array.from({ length: 40 }, (_, i) => {
      return { path: `dir/small-${i}`, content: manyBytes(random, 20_000 + i) };
    }),
    { path: 'large', content: manyBytes(random, 1_200_000) },
    { path: 'text', content: text },
  ],
  [{ path: 'dir/small-3', content: 'another' }],
]);
const source: RepairSource = { kind: 'oci', reference: 'oci:image', image };

let store: MemoryStore;
let recipeId: string;
let recipe: Recipe;
let disk: Buffer;

async function pushed(push: () => Promise<unknown>): Promise<void> {
  await push();
  const target = await targetOn(store, 'app');
  ({ recipe, recipeId } = await target.catalog.open(target.name));
  disk = await diskBytes(recipe, target.roots);
}

beforeEach(async () => {
  store = new MemoryStore();
  await pushed(async () => pushImage(image, await targetOn(store, 'app')));
});

async function diskBytes(of: Recipe, roots: Roots): Promise<Buffer> {
  return Buffer.concat(await diskOf(of, roots).read(0, of.diskSizeBytes));
}

async function brokenIn(of: Recipe, roots: Roots, root: Root): Promise<Set<ChunkId>> {
  const { faults } = await verifyImage(of, verified(rootSource(roots, root)), {
    onProgress: () => {},
  });
  return new Set(faults.flatMap(({ chunk }) => chunk ?? []));
}

/** As the command does it; `puts` gets the keys of what is put but for leases. */
async function repair(from: RepairSource, puts: string[] = []): Promise<RepairReport> {
  const watched = new WatchedStore(store, async ({ kind, key }, work) => {
    if (kind === 'put' && !key.startsWith('pushes/')) puts.push(key);
    return work();
  });
  const target = await targetOn(watched, 'app');
  const { roots, catalog, name } = target;
  const record = await catalog.record(name);
  let resolved: Resolved | undefined;
  try {
    resolved = await catalog.resolve(name);
  } catch (error) {
    assert.ok(error instanceof ImgstoreError && ['CORRUPT', 'LIMIT'].includes(error.code));
  }
  const broken = { recipeId: record!.recipeId, recipe: resolved };
  const report = await repairImage(from, broken, {
    ...target,
    ownerKey,
    brokenIn: (of, root) => brokenIn(of, roots, root),
  });
  const after = await catalog.open(name);
  assert.equal(after.recipeId, report.recipeId);
  assert.equal(after.root, report.root.id);
  assert.deepEqual(await brokenIn(after.recipe, roots, report.root), new Set());
  assertSameBytes(await diskBytes(after.recipe, roots), disk);
  return report;
}

function chunksOf(of: Recipe): ChunkSegment[] {
  const distinct = new Map(
    of.segments.map(s => (s.kind === 'chunk' ? [s.id, s] : ['', undefined])),
  );
  return [...distinct.values()].filter(segment => segment !== undefined);
}

function keyOf({ id }: ChunkSegment, root = 'r0001'): string {
  return `roots/${root}/chunks/${chunkObjectKey(id)}`;
}

function bytesAt(key: string): Buffer {
  return store.objects.get(key)!.bytes;
}

function set(key: string, bytes: Buffer): void {
  store.objects.set(key, { bytes, modified: new Date() });
}

/** A bit is another, but for the first `from` bytes. */
function flip(key: string, by: Random, from = 0): void {
  const bytes = Buffer.from(bytesAt(key));
  bytes[by.between(from, bytes.length - 1)]! ^= 1 << by.below(8);
  set(key, bytes);
}

function snapshot(): Map<string, Buffer> {
  return new Map([...store.objects].map(([key, { bytes }]) => [key, bytes]));
}

function isRefusal(code: ErrorCode, message: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof ImgstoreError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(`${error.message}. ${error.hint}`, message);
    return true;
  };
}

/** Refused, and the store is as it was. */
async function assertRefused(from: RepairSource, code: ErrorCode, message: RegExp): Promise<void> {
  const before = snapshot();
  const puts: string[] = [];
  await assert.rejects(repair(from, puts), isRefusal(code, message));
  assert.deepEqual(puts, []);
  assert.deepEqual(snapshot(), before);
}

const randomDamages: ((key: string, by: Random) => void)[] = [
  key => store.objects.delete(key),
  (key, by) => set(key, bytesAt(key).subarray(0, by.below(bytesAt(key).length))),
  key => set(key, Buffer.concat([bytesAt(key), Buffer.from('x')])),
  flip,
];

test('random damage: what is broken is put, nothing else, and the store is as it was', async () => {
  const chunks = chunksOf(recipe);
  for (const by of seeded(8)) {
    const before = snapshot();
    let broken = chunks.filter(() => by.chance(0.3));
    if (by.chance(0.3) && broken.length > 1) {
      broken = broken.slice(0, 2);
      const [a, b] = [keyOf(broken[0]!), keyOf(broken[1]!)];
      const bytes = bytesAt(a);
      set(a, bytesAt(b));
      set(b, bytes);
    } else for (const chunk of broken) by.pick(randomDamages)(keyOf(chunk), by);
    const recipeKey = `roots/r0001/recipes/${recipeId}`;
    const recipeIsBroken = by.chance(0.4);
    if (recipeIsBroken) {
      if (by.chance(0.5)) flip(recipeKey, by);
      else by.pick(randomDamages)(recipeKey, by);
    }
    const puts: string[] = [];
    const report = await repair(source, puts);
    const expected = broken.map(chunk => keyOf(chunk));
    if (recipeIsBroken) expected.push(recipeKey);
    assert.deepEqual(puts.sort(), expected.sort(), `seed ${by.seed}`);
    assert.equal(report.recipeId, recipeId);
    assert.equal(report.putChunks, broken.length);
    const putBytes = broken.reduce((sum, { sealedSizeBytes }) => sum + sealedSizeBytes, 0);
    assert.equal(report.putBytes, putBytes);
    assert.equal(report.putRecipe, recipeIsBroken);
    assert.deepEqual(snapshot(), before, `seed ${by.seed}`);
  }
});

test('a chunk of metadata, and all chunks at once', async () => {
  const before = snapshot();
  const [first] = chunksOf(recipe);
  store.objects.delete(keyOf(first!));
  assert.equal((await repair(source)).putChunks, 1);
  for (const chunk of chunksOf(recipe)) store.objects.delete(keyOf(chunk));
  assert.equal((await repair(source)).putChunks, chunksOf(recipe).length);
  assert.deepEqual(snapshot(), before);
});

test('another source is refused before anything is written', async context => {
  store.objects.delete(keyOf(chunksOf(recipe)[1]!));
  const other = new TestImage([[{ path: 'other', content: 'x' }]]);
  const digests = `manifest ${image.manifestDigest}, and oci:other is ${other.manifestDigest}`;
  await assertRefused(
    { kind: 'oci', reference: 'oci:other', image: other },
    'USAGE',
    new RegExp(digests),
  );
  const path = join(temporaryFolder(context), 'disk');
  writeFileSync(path, disk);
  const asDisk: RepairSource = { kind: 'disk', reference: `disk:${path}`, path };
  await assertRefused(asDisk, 'USAGE', /it is an image, and disk:.* is a raw disk/);
});

test('an image made by other rules is refused before anything is written', async () => {
  const target = await targetOn(store, 'app');
  const details = { ...recipe.details, pipeline: 'flatten-0 of long ago' };
  await target.catalog.commit(target.name, { ...recipe, details }, { now: new Date() } as never);
  store.objects.delete(keyOf(chunksOf(recipe)[1]!));
  await assertRefused(source, 'UNSUPPORTED', /made by the rules "flatten-0 of long ago".*Push the/);
});

test('a lost recipe and another source: refused before anything is written', async () => {
  store.objects.delete(`roots/r0001/recipes/${recipeId}`);
  store.objects.delete(keyOf(chunksOf(recipe)[1]!));
  const other = new TestImage([[{ path: 'other', content: 'x' }]]);
  const from: RepairSource = { kind: 'oci', reference: 'oci:other', image: other };
  await assertRefused(from, 'USAGE', new RegExp(`its recipe ${recipeId} is lost.*oci:other makes`));
});

test('a raw disk: the same file mends it, another is refused', async context => {
  const folder = temporaryFolder(context);
  const content = Buffer.concat([
    manyBytes(random, 700_000),
    Buffer.alloc(500_000),
    manyBytes(random, 900_001),
  ]);
  const path = join(folder, 'disk');
  writeFileSync(path, content);
  await pushed(async () => pushDisk(path, await targetOn(store, 'app')));
  const before = snapshot();
  const chunks = chunksOf(recipe);
  store.objects.delete(keyOf(chunks[0]!));
  flip(keyOf(chunks[2]!), random);

  const changed = join(folder, 'changed');
  for (const [state, bytes] of [
    ['grown', Buffer.concat([content, manyBytes(random, 100_000)])],
    ['another byte', Buffer.concat([content.subarray(0, -1), Buffer.from([content.at(-1)! ^ 1])])],
    ['another file', manyBytes(random, 300_000)],
  ] as const) {
    writeFileSync(changed, bytes);
    const from: RepairSource = { kind: 'disk', reference: 'disk:changed', path: changed };
    await assertRefused(from, 'USAGE', /disk:changed holds other data than what was pushed/);
    assert.ok(state);
  }
  await assertRefused(source, 'USAGE', /it is a raw disk, and oci:image is an image/);

  const puts: string[] = [];
  const report = await repair({ kind: 'disk', reference: 'disk:disk', path }, puts);
  assert.deepEqual(puts.sort(), [keyOf(chunks[0]!), keyOf(chunks[2]!)].sort());
  assert.equal(report.recipeId, recipeId);
  assert.deepEqual(snapshot(), before);
});

test('a raw disk that ends earlier is refused, though every chunk of it is known', async context => {
  const path = join(temporaryFolder(context), 'disk');
  const content = manyBytes(random, 1_000_000);
  writeFileSync(path, Buffer.concat([content, Buffer.alloc(1_000_000)]));
  await pushed(async () => pushDisk(path, await targetOn(store, 'app')));
  store.objects.delete(keyOf(chunksOf(recipe)[0]!));
  const from: RepairSource = { kind: 'disk', reference: 'disk:file', path };
  writeFileSync(path, content);
  await assertRefused(from, 'USAGE', /disk:file holds other data/);
  writeFileSync(path, Buffer.concat([content, Buffer.alloc(1_000_000)]));
  assert.equal((await repair(from)).putChunks, 1);
});

/** A chunk as another version of zstd might have sealed it: the same bytes, other sealed ones. */
function sealOtherwise(plain: Buffer, key: Buffer): Buffer {
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  const encrypted = [cipher.update(Buffer.of(codecPlain)), cipher.update(plain), cipher.final()];
  return Buffer.concat([nonce, ...encrypted, cipher.getAuthTag()]);
}

test('chunks that this zstd seals otherwise: whole ones stay, a broken one makes a new recipe', async () => {
  const target = await targetOn(store, 'app');
  const old = new Map<ChunkId, ChunkSegment>();
  let at = 0;
  for (const segment of recipe.segments) {
    const plain = disk.subarray(at, at + segment.plainSizeBytes);
    at += segment.plainSizeBytes;
    if (segment.kind === 'zero' || old.has(segment.id) || old.size === 2) continue;
    const sealed = sealOtherwise(plain, segment.key);
    const id = chunkIdOf(sealed);
    store.objects.delete(keyOf(segment));
    set(keyOf({ ...segment, id }), sealed);
    old.set(segment.id, { ...segment, id, sealedSizeBytes: sealed.length });
  }
  const segments = recipe.segments.map(s => (s.kind === 'chunk' ? (old.get(s.id) ?? s) : s));
  await target.catalog.commit(target.name, { ...recipe, segments }, { now: new Date() } as never);
  const before = (await target.catalog.open(target.name)).recipeId;
  assert.notEqual(before, recipeId);
  const [[newId, kept], [, lost]] = [...old] as [[ChunkId, ChunkSegment], [ChunkId, ChunkSegment]];

  const other = chunksOf(recipe).at(-1)!;
  store.objects.delete(keyOf(other));
  const same = await repair(source);
  assert.deepEqual([same.putChunks, same.putRecipe, same.recipeId], [1, false, before]);

  store.objects.delete(keyOf(lost));
  const report = await repair(source);
  assert.equal(report.putRecipe, true);
  assert.equal(report.putChunks, 1);
  assert.notEqual(report.recipeId, before);
  const ids = new Set(chunksOf(report.recipe).map(({ id }) => id));
  assert.ok(ids.has(kept.id) && !ids.has(newId), 'the whole one is not made again');
  assert.ok(!ids.has(lost.id));
});

test('an image of a retired root is whole in the active one afterwards', async () => {
  set('states/r0002.opened', Buffer.alloc(0));
  const chunks = chunksOf(recipe);
  store.objects.delete(keyOf(chunks[1]!));
  const before = snapshot();
  // One is there already.
  set(keyOf(chunks[3]!, 'r0002'), bytesAt(keyOf(chunks[3]!)));
  const puts: string[] = [];
  const report = await repair(source, puts);
  assert.equal(report.root.id, 'r0002');
  assert.equal(report.recipeId, recipeId);
  assert.equal(report.putRecipe, true);
  assert.deepEqual(
    puts.sort(),
    [
      ...chunks.filter((_, i) => i !== 3).map(chunk => keyOf(chunk, 'r0002')),
      `roots/r0002/recipes/${recipeId}`,
    ].sort(),
  );
  for (const [key, bytes] of before) assertSameBytes(bytesAt(key), bytes);
});
