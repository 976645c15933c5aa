/**
 * Random histories of a store: pushes, removals and collections, some killed, some at the same
 * time, minutes or days apart, and readers who looked at the roots long ago. Whatever happens, what
 * a name means can be read whole; once all is quiet, two collections leave nothing else.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { leftoverAgeMinMs } from '../../src/base/limits.ts';
import { parseImageName } from '../../src/recipe/name.ts';
import { encodeRecipe } from '../../src/recipe/sealed-recipe.ts';
import { Roots } from '../../src/store/roots.ts';
import { TestCatalog } from '../support/catalogs.ts';
import { type Random, seeded } from '../support/random.ts';
import { ownerKey } from '../support/recipes.ts';
import { WatchedStore } from '../support/watched-store.ts';
import {
  assertExact,
  assertReadable,
  assertWhole,
  ClockedStore,
  type Contents,
  gc,
  hourMs,
  minuteMs,
  push,
  recipeOf,
  remove,
  type TestStore,
} from './support.ts';

const histories = 25;
const stepsOfHistory = 25;

class Killed extends Error {}

class History {
  readonly #store = new ClockedStore();
  readonly #names = new Map<string, Contents>();
  readonly #random: Random;
  readonly #readers: Roots[] = [];
  readonly #log: string[] = [];
  #pushes = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  async run(): Promise<void> {
    await this.#push('n0', this.#store);
    for (let step = 0; step < stepsOfHistory; step++) await this.#step();
    this.#wait(leftoverAgeMinMs);
    for (let time = 0; time < 2; time++) await this.#collect(this.#store, 0);
    await assertExact(this.#store, this.#names, this.#text);
  }

  async #step(): Promise<void> {
    const random = this.#random;
    const dice = random.below(100);
    const mayDie = random.chance(0.3);
    if (dice < 30) await this.#push(this.#someName(), this.#process(mayDie));
    else if (dice < 45) await this.#remove(this.#someName());
    else if (dice < 65) await this.#collect(this.#process(mayDie));
    else if (dice < 80) await this.#severalAtOnce();
    else if (dice < 90) this.#wait(random.pick([minuteMs, 50 * minuteMs, 2 * hourMs, 30 * hourMs]));
    else {
      const reader = new Roots(this.#store);
      await reader.view();
      this.#readers[random.below(3)] = reader;
    }
    this.#store.nowMs += random.below(1000);
    await this.#check();
  }

  async #severalAtOnce(): Promise<void> {
    const random = this.#random;
    const work = [this.#collect(this.#process(random.chance(0.3)))];
    if (random.chance(0.7)) work.push(this.#push('n0', this.#process(random.chance(0.3))));
    if (random.chance(0.5)) work.push(this.#push('n1', this.#process(false)));
    if (random.chance(0.4)) work.push(this.#remove('n2'));
    if (random.chance(0.4)) work.push(this.#collect(this.#process(random.chance(0.3))));
    await Promise.all(work);
  }

  /** The store as a process sees it that runs beside others, and is killed at one of its calls. */
  #process(mayDie: boolean): TestStore {
    const random = this.#random;
    let left = mayDie ? random.between(1, 60) : Number.POSITIVE_INFINITY;
    const isLastDone = random.chance(0.5);
    return new WatchedStore(this.#store, async (_call, work) => {
      for (let turns = random.below(4); turns > 0; turns--) await new Promise(setImmediate);
      left--;
      if (left < 0 || (left === 0 && !isLastDone)) throw new Killed();
      await work();
      if (left === 0) throw new Killed();
    });
  }

  async #push(name: string, store: TestStore): Promise<void> {
    const random = this.#random;
    const some = Array.from({ length: random.between(1, 6) }, () => `c${random.below(12)}`);
    const contents = [...new Set([...some, `own ${this.#pushes++}`])];
    this.#log.push(`push ${name}`);
    const ending = await endOf(push(store, name, contents));
    this.#log.push(`${ending} push ${name}`);
    if (ending === 'done' || (await this.#means(name, contents))) this.#names.set(name, contents);
  }

  async #means(name: string, contents: Contents): Promise<boolean> {
    const record = await new TestCatalog(this.#store).record(parseImageName(name));
    return record?.recipeId === encodeRecipe(recipeOf(contents), ownerKey).id;
  }

  async #remove(name: string): Promise<void> {
    this.#log.push(`rm ${name}`);
    this.#names.delete(name);
    await remove(this.#store, name);
  }

  async #collect(store: TestStore, graceMs?: number): Promise<void> {
    const grace = graceMs ?? this.#random.pick([0, 0, hourMs, 24 * hourMs]);
    const liveChunksMax = this.#random.pick([1, 8, undefined]);
    this.#log.push(`gc ${grace / hourMs} h`);
    const ending = await endOf(gc(store, { graceMs: grace, liveChunksMax }));
    this.#log.push(`${ending} gc`);
  }

  #wait(ms: number): void {
    this.#log.push(`wait ${ms / minuteMs} min`);
    this.#store.nowMs += ms;
  }

  async #check(): Promise<void> {
    for (const [name, contents] of this.#names) {
      await assertWhole(this.#store, name, contents, `${this.#text}: ${name}`);
      for (const reader of this.#readers) {
        if (reader !== undefined) await assertReadable(reader, contents, `${this.#text}: old view`);
      }
    }
  }

  #someName(): string {
    return `n${this.#random.below(5)}`;
  }

  get #text(): string {
    return `seed ${this.#random.seed}: ${this.#log.join(', ')}`;
  }
}

async function endOf(work: Promise<unknown>): Promise<'done' | 'killed' | 'busy'> {
  try {
    await work;
    return 'done';
  } catch (error) {
    if (error instanceof Killed) return 'killed';
    assert.equal((error as { code?: string }).code, 'BUSY', String(error));
    return 'busy';
  }
}

test('whatever happens to a store, names mean what they meant', async () => {
  for (const random of seeded(histories)) await new History(random).run();
});
