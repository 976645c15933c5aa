/**
 * Pushes, reads, verifications, exports, removals and collections on a store that fails by a seed, with the retries
 * that S3 has and without any, as over a folder. IMGSTORE_FAULT_SEED=N runs one seed.
 */

import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { writeDisk } from '../../src/export/disk.ts';
import { writeOutputFile } from '../../src/export/output-file.ts';
import { pushImage } from '../../src/push/push.ts';
import { formatImageName, parseImageName } from '../../src/recipe/name.ts';
import { Retrier } from '../../src/store/retry.ts';
import { retrying } from '../../src/store/retrying.ts';
import { type FaultKind, FaultyStore } from '../support/faulty-store.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { targetOn, verdictOn } from '../support/pushing.ts';
import type { Random } from '../support/random.ts';
import { assertSameBytes } from '../support/same-bytes.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { VirtualClock } from '../support/virtual-clock.ts';
import {
  type AnyStore,
  assertClear,
  collectOnce,
  expectedDisks,
  faultImage,
  imageNumbers,
  LongReader,
  meaningsIn,
  readSome,
  rounds,
} from './world.ts';

type Rates = Partial<Record<FaultKind, number>>;

const disks = await expectedDisks();
const hour = 3_600_000;
/** What a service does that is in trouble, one kind at a time and all together. */
const profiles: Readonly<Record<string, Rates>> = {
  'errors before the work': { refused: 0.2 },
  'lost answers': { lost: 0.2 },
  'work done late': { late: 0.1, again: 0.1 },
  'stalls and errors': { stalled: 0.2, refused: 0.1 },
  'damaged bodies': { flipped: 0.05, cut: 0.05, lengthened: 0.05 },
  'lists that lag': { stale: 0.5 },
  everything: {
    ...{ refused: 0.05, lost: 0.05, late: 0.03, again: 0.03, stalled: 0.05 },
    ...{ flipped: 0.02, cut: 0.02, lengthened: 0.02, stale: 0.1 },
  },
};

const tally = { operations: 0, failed: 0, requests: 0, injected: 0, longestMs: 0 };
after(() => process.stdout.write(`# ${JSON.stringify(tally)}\n`));

class World {
  readonly clock = new VirtualClock();
  readonly faulty: FaultyStore;
  readonly store: AnyStore;
  readonly reader: LongReader;
  /** Of each name, what it may mean; '' is no such name. */
  readonly possible = new Map<string, Set<string>>();
  #rates: Rates;
  readonly #random: Random;

  constructor(random: Random, rates: Rates, { retries }: { retries: boolean }) {
    this.#random = random;
    this.#rates = rates;
    const { clock } = this;
    this.faulty = new FaultyStore(new MemoryStore({ now: clock.now }), {
      seed: random.seed,
      clock,
      rates: {},
      lateMaxMs: 60_000,
      staleMaxMs: 60_000,
      stallMaxMs: 60_000,
    });
    const { now, sleep } = clock;
    const retrier = new Retrier({ now, sleep, random: () => random.u32() / 2 ** 32 });
    this.store = retries ? retrying(this.faulty, retrier) : this.faulty;
    this.reader = new LongReader(this.store);
  }

  /** With faults from the first request of the operation to its last. */
  async attempt(work: () => Promise<unknown>): Promise<boolean> {
    const beganMs = this.clock.now();
    const calls = this.faulty.calls.length;
    this.faulty.rates = this.#rates;
    try {
      await work();
      return true;
    } catch (error) {
      assertClear(error);
      return false;
    } finally {
      this.faulty.rates = {};
      const elapsedMs = this.clock.now() - beganMs;
      tally.longestMs = Math.max(tally.longestMs, Math.round(elapsedMs));
      // Some dozens of requests, of which each may be given 90 s; most are not.
      assert.ok(elapsedMs < hour / 2, 'an end comes in time');
      assert.ok(this.faulty.calls.length - calls < 600, 'requests are bounded');
    }
  }

  async push(name: string, number: number): Promise<boolean> {
    let recipe: string | undefined;
    const done = await this.attempt(async () => {
      const target = await targetOn(this.store, name);
      recipe = (await pushImage(faultImage(number), target)).recipe;
    });
    this.#mayMean(name, recipe ?? [...disks.keys()][number]!, done);
    return done;
  }

  async remove(name: string): Promise<boolean> {
    const done = await this.attempt(() => this.reader.catalog.remove(parseImageName(name)));
    this.#mayMean(name, '', done);
    return done;
  }

  async read(name: string): Promise<boolean> {
    return this.attempt(async () => {
      const found = await this.reader.catalog.resolve(parseImageName(name));
      if (found === undefined) return;
      const disk = this.reader.diskOf(found.recipe);
      await readSome(disk, disks.get(found.recipeId)!, this.#random);
    });
  }

  /** Work done late comes within a minute, and lists lag no more: an hour covers both. */
  async collect(): Promise<boolean> {
    this.clock.advance(this.#random.below(3) * hour);
    const isLate = ['late', 'again', 'stale'].some(kind => kind in this.#rates);
    return this.attempt(() => collectOnce(this.store, isLate ? hour : 0));
  }

  async verify(name: string): Promise<boolean> {
    return this.attempt(async () => {
      const found = await this.reader.catalog.resolve(parseImageName(name));
      if (found !== undefined) await verdictOn(found.recipe, this.reader.roots);
    });
  }

  /** A file that is whole, or none. */
  async export(name: string, path: string): Promise<boolean> {
    return this.attempt(async () => {
      const found = await this.reader.catalog.resolve(parseImageName(name));
      if (found === undefined) return;
      const disk = this.reader.diskOf(found.recipe);
      await writeOutputFile(path, file =>
        writeDisk(found.recipe, disk, file, { onProgress: () => {} }),
      );
      await using file = await open(path);
      assertSameBytes(await file.readFile(), disks.get(found.recipeId)!, 'the export');
    });
  }

  /** What was done late before has happened by now, unless the service does such things. */
  #mayMean(name: string, meaning: string, done: boolean): void {
    const text = formatImageName(parseImageName(name));
    const late = this.#rates.late !== undefined || this.#rates.again !== undefined;
    const before = this.possible.get(text) ?? new Set(['']);
    this.possible.set(text, new Set([...(done && !late ? [] : before), meaning]));
  }

  /** After the faults: nothing is broken, and everything works. */
  async settle(): Promise<void> {
    await this.faulty.calm();
    const meanings = await meaningsIn(this.faulty.inner, disks);
    for (const [name, possible] of this.possible) {
      const meaning = meanings.get(name) ?? '';
      assert.ok(possible.has(meaning), `${name} means ${meaning || 'nothing'}`);
    }
    this.#rates = {};
    for (let times = 0; times < 3; times++) {
      this.clock.advance(2 * hour);
      assert.ok(await this.collect(), 'a collection works again');
    }
    assert.deepEqual(await meaningsIn(this.faulty.inner, disks), meanings);
    for (const [name] of this.possible) {
      assert.ok(await this.push(name, 2), 'a push works again');
      assert.ok(await this.read(name), 'a reader works again');
    }
  }
}

let seed = 1;
for (const [what, rates] of Object.entries(profiles)) {
  for (const retries of [true, false]) {
    const from = seed;
    seed += 100;
    test(`${what}, ${retries ? 'with' : 'without'} retries`, { timeout: 60_000 }, async context => {
      const folder = temporaryFolder(context);
      let injected = 0;
      await rounds(2, from, async random => {
        const world = new World(random, rates, { retries });
        // Without a store there is nothing to go wrong.
        await targetOn(world.store, 'app');
        await world.push('app', random.pick(imageNumbers));
        for (let step = 0; step < 8; step++) {
          const name = random.pick(['app', 'web']);
          const done = await [
            () => world.push(name, random.pick(imageNumbers)),
            () => world.push(name, random.pick(imageNumbers)),
            () => world.read(name),
            () => world.read(name),
            () => world.verify(name),
            () => world.export(name, join(folder, 'disk')),
            () => world.remove(name),
            () => world.collect(),
            () => world.collect(),
          ][random.below(9)]!();
          tally.operations++;
          if (!done) tally.failed++;
        }
        await world.settle();
        tally.requests += world.faulty.calls.length;
        for (const times of world.faulty.injected.values()) injected += times;
      });
      assert.ok(injected > 0, 'there were faults');
      tally.injected += injected;
    });
  }
}
