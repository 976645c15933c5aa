import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ChunkId, sha256Hex } from '../../src/base/digest.ts';
import { ImgstoreError } from '../../src/base/errors.ts';
import { sealedChunkSizeMaxBytes } from '../../src/base/limits.ts';
import { type ScrubOptions, type ScrubReport, scrubStore } from '../../src/catalog/scrub.ts';
import { ScrubFindings } from '../../src/catalog/scrub-findings.ts';
import { headerVersionAt } from '../../src/recipe/format.ts';
import { nameObjectKey, parseImageName } from '../../src/recipe/name.ts';
import type { ChunkSegment, Recipe } from '../../src/recipe/recipe.ts';
import { chunkObjectKey } from '../../src/store/format.ts';
import { Roots } from '../../src/store/roots.ts';
import { rootsOf, TestCatalog } from '../support/catalogs.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { Random, seeded } from '../support/random.ts';
import { fixedRecipe, otherKey, ownerKey } from '../support/recipes.ts';
import { type Watch, WatchedStore } from '../support/watched-store.ts';

const now = new Date('2026-01-02T03:04:05.678Z');

/** A store of a few images by two owners, in two roots, with garbage. */
class Filled {
  readonly store = new MemoryStore();
  readonly random: Random;
  /** Object key → names that need it, of what a scrub looks at. */
  readonly chunks = new Map<string, Set<string>>();
  readonly recipes = new Map<string, string[]>();
  readonly names: string[] = [];

  constructor(random: Random) {
    this.random = random;
  }

  static async make(random: Random): Promise<Filled> {
    const filled = new Filled(random);
    await rootsOf(filled.store).view();
    const base = ['base', 'more'];
    await filled.push('r0001', 'old', ['one', ...base]);
    await filled.push('r0001', 'other/owner', ['two', ...base], otherKey);
    filled.open('r0002');
    await filled.push('r0002', 'app', [...base, 'three']);
    await filled.push('r0002', 'app:2', [...base, 'three']);
    await filled.push('r0002', 'next', [...base, ...Array.from({ length: 20 }, (_, i) => `n${i}`)]);
    filled.chunk('r0002', 'garbage');
    return filled;
  }

  open(root: string): void {
    this.set(`states/${root}.opened`, Buffer.alloc(0));
  }

  set(key: string, bytes: Buffer): void {
    this.store.objects.set(key, { bytes, modified: now });
  }

  bytes(key: string): Buffer {
    return this.store.objects.get(key)!.bytes;
  }

  chunk(root: string, seed: string): ChunkSegment {
    const bytes = new Random(Buffer.from(seed).reduce((sum, byte) => sum * 31 + byte, 7)).bytes(
      200,
    );
    const id = sha256Hex(bytes) as ChunkId;
    const key = `roots/${root}/chunks/${chunkObjectKey(id)}`;
    this.set(key, bytes);
    if (!this.chunks.has(key)) this.chunks.set(key, new Set());
    return { kind: 'chunk', id, key: Buffer.alloc(32), plainSizeBytes: 1, sealedSizeBytes: 200 };
  }

  async push(root: string, text: string, seeds: readonly string[], key = ownerKey): Promise<void> {
    const name = parseImageName(text);
    const segments = seeds.map(seed => this.chunk(root, seed));
    const { details } = fixedRecipe();
    const sizes = { diskSizeBytes: segments.length, metadataSizeBytes: 0 };
    const recipe: Recipe = { ...sizes, segments, details: { ...details, pipeline: seeds.join() } };
    const catalog = new TestCatalog(rootsOf(this.store), key);
    assert.equal((await catalog.roots.active()).id, root);
    const { recipeId } = await catalog.commit(name, recipe, { now });
    const shown = `${name.name}:${name.tag}`;
    this.names.push(shown);
    for (const { id } of segments) {
      this.chunks.get(`roots/${root}/chunks/${chunkObjectKey(id)}`)!.add(shown);
    }
    const recipeKey = `roots/${root}/recipes/${recipeId}`;
    this.recipes.set(recipeKey, [...(this.recipes.get(recipeKey) ?? []), shown]);
  }

  scrub(options: Partial<ScrubOptions> = {}): Promise<ScrubReport> {
    return scrub(this.store, options);
  }
}

function scrub(
  store: MemoryStore | WatchedStore,
  options: Partial<ScrubOptions> = {},
): Promise<ScrubReport> {
  return scrubStore(new Roots(store), { onRoot: () => {}, onProgress: () => {}, ...options });
}

/** In few words, in the order of keys. */
function faultsOf({ faults }: ScrubReport): [string, string, string[]][] {
  return faults.map(({ key, state, names }) => [key, state, [...names].sort()]);
}

const smallBounds = { chunksListedMax: 0, chunksOfPassMax: 4 };

test('a whole store: everything is counted, progress ends at its total, no key is needed', async () => {
  const filled = await Filled.make(new Random(1));
  const progress = new Map<string, [number, number]>();
  let root = '';
  const report = await filled.scrub({
    onRoot: ({ id }) => {
      root = id;
    },
    onProgress: (...bytes) => progress.set(root, bytes),
  });
  assert.deepEqual(report.faults, []);
  assert.equal(report.faultCount, 0);
  assert.equal(report.names, 5);
  assert.deepEqual(
    report.roots.map(({ id, state, chunks, recipes }) => [id, state, chunks, recipes]),
    [
      ['r0002', 'active', 24, 2],
      ['r0001', 'retired', 4, 2],
    ],
  );
  for (const { id, chunkBytes, recipeBytes } of report.roots) {
    assert.equal(chunkBytes, 200 * (id === 'r0001' ? 4 : 24));
    assert.deepEqual(progress.get(id), [chunkBytes + recipeBytes, chunkBytes + recipeBytes]);
  }
  assert.deepEqual(await filled.scrub({ bounds: smallBounds }), report);
});

test('what is damaged is listed with who needs it', async () => {
  const filled = await Filled.make(new Random(1));
  const ofKind = (root: string, names: string) =>
    [...filled.chunks].find(
      ([key, needed]) => key.includes(root) && [...needed].sort().join() === names,
    )![0];
  const shared = ofKind('r0001', 'old:latest,other/owner:latest');
  const garbage = ofKind('r0002', '');
  const own = ofKind('r0002', 'app:2,app:latest');
  filled.set(shared, filled.bytes(shared).subarray(1));
  filled.set(garbage, Buffer.alloc(sealedChunkSizeMaxBytes + 1));
  filled.store.objects.delete(own);
  const recipe = [...filled.recipes].find(([, names]) => names.includes('next:latest'))![0];
  const newer = Buffer.from(filled.bytes(recipe));
  newer.writeUInt16LE(9, headerVersionAt);
  filled.set(recipe, newer);
  filled.set('names/old/@latest', Buffer.from('{"version":1}'));
  const report = await filled.scrub();
  const name = 'names/old/@latest';
  // What a damaged record means nobody can tell, so `old` is not among those who need a chunk.
  const expected: [string, string, string[]][] = [
    [shared, 'damaged', ['other/owner:latest']],
    [garbage, 'damaged', []],
    [own, 'missing', ['app:2', 'app:latest']],
    [recipe, 'damaged', ['next:latest']],
    [name, 'damaged', ['old:latest']],
  ];
  expected.sort(([a], [b]) => (a < b ? -1 : 1));
  assert.deepEqual(faultsOf(report), expected);
  assert.equal(report.faultCount, 5);
  const problem = new Map(report.faults.map(fault => [fault.key, fault]));
  assert.match(problem.get(shared)!.problem, /SHA-256 is another/);
  assert.match(problem.get(garbage)!.problem, /more than/);
  assert.match(problem.get(recipe)!.problem, /format version 9/);
  assert.equal(problem.get(name)!.root, undefined);
  assert.equal(problem.get(own)!.root, 'r0002');
});

test('a name whose recipe is in no root', async () => {
  const filled = await Filled.make(new Random(1));
  const [lost, names] = [...filled.recipes].find(([, needed]) => needed.length === 2)!;
  filled.store.objects.delete(lost);
  const { faults } = await filled.scrub();
  assert.deepEqual(
    faults.map(({ key, state }) => [key, state]),
    names.map(name => [`names/${nameObjectKey(parseImageName(name))}`, 'missing']).sort(),
  );
  assert.match(faults[0]!.problem, /its recipe [0-9a-f]{64} is in no root/);
});

test('objects that are none of ours are told, and are no fault', async () => {
  const filled = await Filled.make(new Random(1));
  const foreign = [
    'names/README',
    'names/UPPER/@tag',
    'roots/r0001/chunks/zz/thing',
    `roots/r0001/chunks/ab/${'cd'.repeat(32)}`,
    'roots/r0002/recipes/backup.tar',
  ];
  for (const key of foreign) filled.set(key, Buffer.from('x'));
  for (const bounds of [undefined, smallBounds]) {
    const report = await filled.scrub(bounds && { bounds });
    assert.deepEqual(report.faults, []);
    assert.deepEqual(report.foreign.sort(), foreign.sort());
    assert.equal(report.foreignCount, foreign.length);
  }
});

test('random damage is found exactly, in however many passes', async () => {
  for (const random of seeded(40)) {
    const filled = await Filled.make(random);
    const expected = new Map<string, [string, string[]]>();
    const lostNames = new Set<string>();
    const originals = [...filled.chunks.keys()].map(key => filled.bytes(key));
    const remove = (key: string) => filled.store.objects.delete(key);
    const damages: ((key: string) => void)[] = [
      key => filled.set(key, filled.bytes(key).subarray(random.between(1, 100))),
      key => filled.set(key, Buffer.concat([filled.bytes(key), Buffer.from('x')])),
      key => filled.set(key, Buffer.alloc(0)),
      key => {
        const bytes = Buffer.from(filled.bytes(key));
        bytes[random.between(100, bytes.length - 1)]! ^= 1 << random.below(8);
        filled.set(key, bytes);
      },
      key => filled.set(key, random.pick(originals)),
    ];
    for (const [key, names] of filled.recipes) {
      if (!random.chance(0.2)) continue;
      if (random.chance(0.5)) {
        remove(key);
        for (const name of names) lostNames.add(name);
      } else {
        damages[3]!(key);
        expected.set(key, ['damaged', [...names].sort()]);
      }
      // Which chunks it needs cannot be told any more.
      for (const needed of filled.chunks.values()) {
        for (const name of names) needed.delete(name);
      }
    }
    for (const name of lostNames) {
      const key = `names/${nameObjectKey(parseImageName(name))}`;
      expected.set(key, ['missing', [name]]);
    }
    for (const [key, needed] of filled.chunks) {
      if (!random.chance(0.2)) continue;
      const names = [...needed].sort();
      if (random.chance(0.5)) {
        remove(key);
        if (names.length > 0) expected.set(key, ['missing', names]);
      } else {
        const before = filled.bytes(key);
        random.pick(damages)(key);
        if (!filled.bytes(key).equals(before)) expected.set(key, ['damaged', names]);
      }
    }
    const bounds = random.pick([undefined, smallBounds]);
    const report = await filled.scrub(bounds && { bounds });
    const shown = [...expected].map(([key, fault]) => [key, ...fault]).sort();
    assert.deepEqual(faultsOf(report).sort(), shown, `seed ${random.seed}`);
    assert.equal(report.faultCount, expected.size);
  }
});

/** `act` once, before the first call that fits. */
function once(fits: (kind: string, key: string) => boolean, act: () => Promise<void>): Watch {
  let done = false;
  return async ({ kind, key }, work) => {
    if (!done && fits(kind, key)) {
      done = true;
      await act();
    }
    return work();
  };
}

test('a push at the same time is no damage', async () => {
  for (const bounds of [undefined, smallBounds]) {
    const filled = await Filled.make(new Random(1));
    const push = () => filled.push('r0002', 'late', ['base', 'late-1', 'late-2']);
    let lists = 0;
    const watch = once((kind, key) => {
      // The second list of the recipes: after all chunks were listed, and looked at.
      return kind === 'list' && key === 'roots/r0002/recipes' && ++lists === 2;
    }, push);
    const report = await scrub(new WatchedStore(filled.store, watch), bounds && { bounds });
    assert.deepEqual(report.faults, []);
    assert.equal(lists, 2);
  }
});

test('a root that is collected meanwhile is left out', async () => {
  const filled = await Filled.make(new Random(1));
  const collect = async () => {
    filled.set('states/r0001.deleted', Buffer.alloc(0));
    for (const key of [...filled.chunks.keys()]) {
      if (key.includes('r0001')) filled.store.objects.delete(key);
    }
    for (const name of ['old', 'other/owner']) filled.store.objects.delete(`names/${name}/@latest`);
  };
  const watch = once((kind, key) => kind === 'get' && key.includes('r0001/chunks'), collect);
  const report = await scrub(new WatchedStore(filled.store, watch));
  assert.deepEqual(
    report.roots.map(({ id }) => id),
    ['r0002'],
  );
  assert.deepEqual(report.faults, []);
});

test('a store that does not answer, that is gone, and an abort are no report', async () => {
  const filled = await Filled.make(new Random(1));
  const isChunk = (kind: string, key: string) => kind === 'get' && key.includes('/chunks/');
  const gone = new ImgstoreError('UNAVAILABLE', 'Cannot read: gone');
  const failing = once(isChunk, () => Promise.reject(gone));
  await assert.rejects(scrub(new WatchedStore(filled.store, failing)), error => error === gone);

  const bug = once(isChunk, () => Promise.reject(new TypeError('bug')));
  await assert.rejects(scrub(new WatchedStore(filled.store, bug)), TypeError);

  const controller = new AbortController();
  const reason = new ImgstoreError('IO', 'Stopped by SIGINT');
  const aborting = once(isChunk, async () => controller.abort(reason));
  await assert.rejects(
    scrub(new WatchedStore(filled.store, aborting), { signal: controller.signal }),
    error => error === reason,
  );

  const unmounting = once(isChunk, async () => filled.store.objects.clear());
  const store = new WatchedStore(filled.store, unmounting);
  await assert.rejects(scrub(store), /no root|no store|is gone/);
});

test('a place on the disk that cannot be read is damage', async () => {
  const filled = await Filled.make(new Random(1));
  const error = new ImgstoreError('IO', 'Cannot read it: the system says EIO');
  const watch = once(
    (kind, key) => kind === 'get' && key.includes('/chunks/'),
    async () => {
      throw error;
    },
  );
  const { faults } = await scrub(new WatchedStore(filled.store, watch));
  assert.deepEqual(
    faults.map(({ state, problem }) => [state, problem]),
    [['damaged', error.message]],
  );
});

test('a store full of damage is counted, not listed', () => {
  const findings = new ScrubFindings();
  const fault = { what: 'chunk', state: 'missing', root: undefined, problem: 'gone' } as const;
  const names = Array.from({ length: 1000 }, (_, i) => `n${i}`);
  for (let i = 0; i < 10_500; i++) findings.fault({ ...fault, key: String(i) }, names);
  for (let i = 0; i < 500; i++) findings.foreignObject(String(i));
  const all = new ScrubFindings();
  all.merge(findings);
  all.merge(findings);
  assert.equal(all.faults.length, 10_000);
  assert.equal(all.faultCount, 21_000);
  assert.equal(all.faults[0]!.names.length, 100);
  assert.equal(all.foreign.length, 100);
  assert.equal(all.foreignCount, 1000);
});
