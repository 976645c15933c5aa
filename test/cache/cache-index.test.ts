import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ChunkId, parseChunkId } from '../../src/base/digest.ts';
import { CacheIndex } from '../../src/cache/cache-index.ts';
import { type Random, seeded } from '../support/random.ts';

const blockBytes = 4096;

function idOf(n: number): ChunkId {
  return parseChunkId(n.toString(16).padStart(64, '0'));
}

function numbersOf(ids: readonly ChunkId[]): number[] {
  return ids.map(id => Number.parseInt(id, 16));
}

function add(index: CacheIndex, n: number, sizeBytes = blockBytes, touchedMs = 0): number[] {
  return numbersOf(index.add(idOf(n), { sizeBytes, touchedMs }));
}

/** As DiskCache asks: what is not there is there afterwards. True if it was. */
function request(index: CacheIndex, n: number, sizeBytes = blockBytes): boolean {
  if (index.use(idOf(n)) !== undefined) return true;
  add(index, n, sizeBytes);
  return false;
}

/** The hits among the requests from `from` to below `end`. */
function requestAll(index: CacheIndex, from: number, end: number): number {
  let hits = 0;
  for (let n = from; n < end; n++) if (request(index, n)) hits++;
  return hits;
}

function present(index: CacheIndex, from: number, end: number): number {
  let there = 0;
  for (let n = from; n < end; n++) if (index.peek(idOf(n)) !== undefined) there++;
  return there;
}

test('sizes are those of whole blocks on the disk', () => {
  const index = new CacheIndex(100 * blockBytes);
  for (const [n, sizeBytes] of [1, 4096, 4097, 100_000].entries()) add(index, n, sizeBytes);
  assert.equal(index.bytes, (1 + 1 + 2 + 25) * blockBytes);
  assert.equal(index.peek(idOf(3))?.sizeBytes, 100_000);
});

test('of chunks that are never used the oldest goes', () => {
  const index = new CacheIndex(3 * blockBytes);
  assert.deepEqual([add(index, 1), add(index, 2), add(index, 3)], [[], [], []]);
  assert.deepEqual([add(index, 4), add(index, 5)], [[1], [2]]);
});

test('a use on trial is enough to stay', () => {
  const index = new CacheIndex(3 * blockBytes);
  for (const n of [1, 2, 3]) add(index, n);
  index.use(idOf(1));
  assert.deepEqual([add(index, 4), add(index, 5), add(index, 6)], [[2], [3], [4]]);
  assert.ok(index.peek(idOf(1)));
});

test('what comes back soon stays; what comes back late is on trial again', () => {
  const index = new CacheIndex(100 * blockBytes);
  for (let n = 0; n < 110; n++) add(index, n);
  assert.equal(present(index, 0, 10), 0);
  add(index, 9);
  for (let n = 200; n < 300; n++) add(index, n);
  assert.ok(index.peek(idOf(9)), 'it went, came back and stayed');
  add(index, 8);
  for (let n = 300; n < 400; n++) add(index, n);
  assert.equal(index.peek(idOf(8)), undefined, 'it was not remembered that long');
});

test('a use has as many turns as it was used, at most three', () => {
  const turnsAfter = (uses: number) => {
    const index = new CacheIndex(10 * blockBytes);
    for (let n = 0; n < 10; n++) add(index, n, blockBytes, 1);
    for (let i = 0; i < uses; i++) index.use(idOf(0));
    // Each of these is past its trial at once, so that all that goes is from the main queue.
    for (let n = 100; ; n++) {
      if (add(index, n, blockBytes, 1).includes(0)) return Math.floor((n - 100) / 9);
    }
  };
  assert.deepEqual([0, 1, 2, 3, 4, 9].map(turnsAfter), [0, 1, 2, 3, 3, 3]);
});

test('a scan of any length leaves what is used', () => {
  const index = new CacheIndex(1000 * blockBytes);
  for (let round = 0; round < 2; round++) requestAll(index, 0, 800);
  requestAll(index, 10_000, 110_000);
  // Nine at most went while the bound on an eviction's work ended the trial of eight hundred.
  assert.ok(present(index, 0, 800) >= 791);
  assert.equal(index.entries, 1000);
});

test('a scan leaves what an earlier process used', () => {
  const index = new CacheIndex(1000 * blockBytes);
  for (let n = 0; n < 800; n++) add(index, n, blockBytes, 1 + n);
  requestAll(index, 10_000, 110_000);
  assert.equal(present(index, 0, 800), 800);
});

test('a loop that is a little too large keeps most of what fits', () => {
  // Least recently used would hit nothing.
  const index = new CacheIndex(1000 * blockBytes);
  let hits = 0;
  for (let round = 0; round < 20; round++) hits = requestAll(index, 0, 1100);
  assert.ok(hits > 700, `${hits} of 1100`);
});

test('another popular set replaces the first, whatever of it fits', () => {
  for (const size of [100, 500, 900, 980]) {
    const index = new CacheIndex(1000 * blockBytes);
    for (let round = 0; round < 10; round++) requestAll(index, 0, 1000);
    for (let round = 0; round < 6; round++) requestAll(index, 5000, 5000 + size);
    const hits = requestAll(index, 5000, 5000 + size);
    assert.ok(hits > 0.9 * size, `${hits} of ${size}`);
  }
});

test('no eviction passes over all of a cache in which all was used', () => {
  const index = new CacheIndex(1000 * blockBytes);
  for (let use = 0; use < 4; use++) requestAll(index, 0, 1000);
  assert.equal(add(index, 5000).length, 1);
  assert.equal(present(index, 0, 1000), 999);
  const gone = Array.from({ length: 200 }, (_, n) => index.peek(idOf(n)) === undefined);
  assert.ok(gone.indexOf(true) <= 100, 'one of the first hundred went');
});

test('shrink takes what is on trial, then from the main queue, down to nothing', () => {
  const index = new CacheIndex(10 * blockBytes);
  for (const n of [0, 1, 2]) add(index, n, blockBytes, 1);
  for (let n = 3; n < 10; n++) add(index, n);
  assert.deepEqual(numbersOf(index.shrink(7 * blockBytes)), [3, 4, 5, 6, 7, 8, 9]);
  assert.deepEqual(numbersOf(index.shrink(1)), [0]);
  assert.deepEqual(numbersOf(index.shrink(100 * blockBytes)), [1, 2]);
  assert.deepEqual(index.shrink(1), []);
});

test('a chunk larger than the cache passes through it', () => {
  const index = new CacheIndex(2 * blockBytes);
  add(index, 1, 2 * blockBytes);
  assert.deepEqual(add(index, 2, 3 * blockBytes).sort(), [1, 2]);
  assert.equal(index.bytes, 0);
});

interface ModelEntry {
  n: number;
  blocks: number;
  uses: number;
}

/** The rule again, as plainly as it can be said: arrays, the oldest first. */
class Model {
  readonly blocksMax: number;
  trial: ModelEntry[] = [];
  main: ModelEntry[] = [];
  remembered: ModelEntry[] = [];

  constructor(blocksMax: number) {
    this.blocksMax = blocksMax;
  }

  get all(): ModelEntry[] {
    return [...this.trial, ...this.main];
  }

  use(n: number): boolean {
    const entry = this.all.find(other => other.n === n);
    if (entry !== undefined) entry.uses = Math.min(3, entry.uses + 1);
    return entry !== undefined;
  }

  add(n: number, blocks: number, touched: boolean): number[] {
    this.delete(n);
    const without = this.remembered.filter(other => other.n !== n);
    const cameBack = without.length < this.remembered.length;
    this.remembered = without;
    (cameBack || touched ? this.main : this.trial).push({ n, blocks, uses: 0 });
    return this.evictTo(this.blocksMax);
  }

  delete(n: number): void {
    this.trial = this.trial.filter(other => other.n !== n);
    this.main = this.main.filter(other => other.n !== n);
  }

  evictTo(target: number): number[] {
    const evicted: number[] = [];
    while (blocksOf(this.all) > target) {
      if (blocksOf(this.trial) > target * 0.1 || this.main.length === 0) {
        const entry = this.trial.shift()!;
        if (entry.uses > 0) {
          this.main.push({ ...entry, uses: 0 });
          continue;
        }
        evicted.push(entry.n);
        this.remembered.push(entry);
        while (blocksOf(this.remembered) > this.blocksMax * 0.9) this.remembered.shift();
      } else {
        const entry = this.main.shift()!;
        if (entry.uses > 0) this.main.push({ ...entry, uses: entry.uses - 1 });
        else evicted.push(entry.n);
      }
    }
    return evicted;
  }
}

function blocksOf(entries: readonly ModelEntry[]): number {
  return entries.reduce((sum, { blocks }) => sum + blocks, 0);
}

function checkAgainstModel(random: Random, sizesMax: number): void {
  const model = new Model(random.between(1, 40));
  const index = new CacheIndex(model.blocksMax * blockBytes);
  // Fewer entries at once than may pass before an eviction, so that the model needs no such bound.
  const ids = random.between(1, 30);
  for (let step = 0; step < 600; step++) {
    const n = random.below(ids);
    const what = `seed ${random.seed}, step ${step}`;
    const action = random.pick(['add', 'add', 'use', 'use', 'use', 'delete', 'shrink']);
    if (action === 'add') {
      const sizeBytes = random.between(1, sizesMax * blockBytes);
      const touched = random.chance(0.2);
      const gone = model.add(n, Math.ceil(sizeBytes / blockBytes), touched);
      assert.deepEqual(add(index, n, sizeBytes, touched ? 1 : 0), gone, what);
    } else if (action === 'use') {
      assert.equal(index.use(idOf(n)) !== undefined, model.use(n), what);
    } else if (action === 'delete') {
      index.delete(idOf(n));
      model.delete(n);
    } else if (random.chance(0.1)) {
      const blocks = random.between(1, model.blocksMax);
      const gone = model.evictTo(Math.max(0, blocksOf(model.all) - blocks));
      assert.deepEqual(numbersOf(index.shrink(blocks * blockBytes)), gone, what);
    }
    assert.equal(index.bytes, blocksOf(model.all) * blockBytes, what);
    assert.equal(index.entries, model.all.length, what);
    assert.ok(index.bytes <= index.sizeMaxBytes, what);
  }
}

test('it does as the rule says, with chunks of one size and of many', () => {
  for (const random of seeded(60)) checkAgainstModel(random, 1);
  for (const random of seeded(60, 1000)) checkAgainstModel(random, 12);
});
