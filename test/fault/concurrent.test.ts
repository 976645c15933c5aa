/**
 * Pushes, removals, readers and collections at the same time on a store that fails: at no instant does a
 * name mean what is not whole. IMGSTORE_FAULT_SEED=N runs one seed.
 *
 * What that takes of a store that is not S3: what it carries out late, and what its lists lag behind,
 * is together less than half of the grace of collections. S3's lists have been consistent since 2020.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { storeSource } from '../../src/cache/store-source.ts';
import { verified } from '../../src/cache/verified.ts';
import { parseImageName } from '../../src/recipe/name.ts';
import { Retrier } from '../../src/store/retry.ts';
import { retrying } from '../../src/store/retrying.ts';
import { Roots } from '../../src/store/roots.ts';
import { gc, hourMs, minuteMs, push, remove, type TestStore } from '../gc/support.ts';
import { TestCatalog } from '../support/catalogs.ts';
import { type FaultRates, FaultyStore } from '../support/faulty-store.ts';
import { MemoryStore } from '../support/memory-store.ts';
import type { Random } from '../support/random.ts';
import { VirtualClock } from '../support/virtual-clock.ts';
import { assertNamesWhole } from './instant.ts';
import { assertClear, rounds } from './world.ts';

interface Profile {
  rates: FaultRates;
  graceMs: number;
}

/** While one stalls, the others get far: that is what leases and second looks are for. */
const erring = { refused: 0.03, lost: 0.03, stalled: 0.15 };
const profiles: Readonly<Record<string, Profile>> = {
  'errors, no grace': { rates: erring, graceMs: 0 },
  'errors and damage': { rates: { ...erring, flipped: 0.01, cut: 0.01 }, graceMs: hourMs },
  'work done late': { rates: { late: 0.08, again: 0.08 }, graceMs: hourMs },
  'lists that lag': { rates: { stale: 0.5 }, graceMs: hourMs },
  everything: {
    rates: { ...erring, late: 0.02, again: 0.02, flipped: 0.01, cut: 0.01, stale: 0.2 },
    graceMs: hourMs,
  },
};

const names = ['a', 'b', 'c'];
/** Half of a grace is longer than both together, and than what a request may be retried. */
const lateMaxMs = 5 * minuteMs;

class Crowd {
  readonly inner: MemoryStore;
  readonly #clock = new VirtualClock();
  readonly #faulty: FaultyStore;
  readonly #store: TestStore;
  readonly #random: Random;
  readonly #profile: Profile;
  readonly #lagging: boolean;
  readonly #readers: Roots[] = [];
  /** At the time of the change, since who made it may have no say in it. */
  #broken: unknown;

  constructor(random: Random, profile: Profile) {
    this.#random = random;
    this.#profile = profile;
    this.#lagging = 'stale' in profile.rates;
    this.inner = new MemoryStore({ now: this.#clock.now });
    this.#faulty = new FaultyStore(this.inner, {
      seed: random.seed,
      clock: this.#clock,
      rates: {},
      lateMaxMs,
      staleMaxMs: lateMaxMs,
      stallMaxMs: minuteMs,
      onChange: () => this.#look(),
    });
    const { now, sleep } = this.#clock;
    const retrier = new Retrier({ now, sleep, random: () => random.u32() / 2 ** 32 });
    this.#store = retrying(this.#faulty, retrier);
  }

  async run(): Promise<Readonly<Record<string, number>>> {
    const random = this.#random;
    for (const name of names) await push(this.#store, name, ['common', name]);
    for (let times = 0; times < 3; times++) this.#readers.push(new Roots(this.#store));
    this.#faulty.rates = this.#profile.rates;
    let failed = 0;
    let done = 0;
    for (let step = 0; step < 12; step++) {
      const work = Array.from({ length: random.between(2, 6) }, () => this.#work());
      for (const { status } of await Promise.allSettled(work)) {
        if (status === 'fulfilled') done++;
        else failed++;
      }
      if (this.#broken !== undefined) throw this.#broken;
      // Some of them come before what is late, most when it is long over.
      this.#clock.advance(random.pick([1000, 2 * minuteMs, 40 * minuteMs, 2 * hourMs]));
    }
    await this.#settle();
    return { done, failed };
  }

  #look(): void {
    try {
      assertNamesWhole(this.inner, { together: !this.#lagging });
    } catch (error) {
      this.#broken ??= error;
    }
  }

  async #work(): Promise<void> {
    const random = this.#random;
    const dice = random.below(10);
    const name = random.pick(names);
    const own = `c${random.below(9)}`;
    const { graceMs } = this.#profile;
    try {
      if (dice < 3) await push(this.#store, name, ['common', own, `${own} more`]);
      else if (dice < 6) await gc(this.#store, { graceMs });
      else if (dice < 9) await this.#read(name, this.#readers[dice - 6]!);
      else await remove(this.#store, name);
    } catch (error) {
      assertClear(error);
      throw error;
    }
  }

  /** As a mount does: the name once, then its chunks, some time later. */
  async #read(name: string, roots: Roots): Promise<void> {
    const source = verified(storeSource(roots));
    const found = await new TestCatalog(roots).resolve(parseImageName(name));
    if (found === undefined) return;
    await this.#clock.sleep(this.#random.below(minuteMs));
    for (const segment of found.recipe.segments) {
      if (segment.kind !== 'chunk') continue;
      const hit = await source.get(segment.id, { sizeBytes: segment.sealedSizeBytes });
      // A list that lags does not show the root that it is in by now.
      assert.ok(hit !== undefined || this.#lagging, `${segment.id} of ${name} is there`);
    }
  }

  /** Quiet: all is as if nothing had ever failed. */
  async #settle(): Promise<void> {
    await this.#faulty.calm();
    for (let times = 0; times < 4; times++) {
      this.#clock.advance(25 * hourMs);
      await gc(this.#store, { graceMs: this.#profile.graceMs });
    }
    if (this.#broken !== undefined) throw this.#broken;
    const { roots } = await new Roots(this.#store).view();
    assert.equal(roots.length, 1, 'old roots are gone');
    for (const roots of this.#readers) {
      for (const name of names) {
        if ((await new TestCatalog(roots).record(parseImageName(name))) === undefined) continue;
        await this.#read(name, roots);
      }
    }
  }
}

let seed = 10_001;
for (const [what, profile] of Object.entries(profiles)) {
  const from = seed;
  seed += 1000;
  test(`${what}: no name breaks at any instant`, { timeout: 60_000 }, async () => {
    const totals = { done: 0, failed: 0 };
    await rounds(12, from, async random => {
      const { done, failed } = await new Crowd(random, profile).run();
      totals.done += done!;
      totals.failed += failed!;
    });
    assert.ok(totals.done > totals.failed, `${totals.done} done, ${totals.failed} failed`);
    process.stdout.write(`# ${what}: ${JSON.stringify(totals)}\n`);
  });
}
