/**
 * A service that is down, from the beginning of an operation or from somewhere in it: every operation
 * ends with a clear error within the time and the requests that docs/format/store-layout.md states, and
 * works again, with what it had in its hands, as soon as the service does.
 */

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { pushImage } from '../../src/push/push.ts';
import { formatImageName, parseImageName } from '../../src/recipe/name.ts';
import { Retrier } from '../../src/store/retry.ts';
import { retrying } from '../../src/store/retrying.ts';
import { FaultyStore } from '../support/faulty-store.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { targetOn, verdictOn } from '../support/pushing.ts';
import { Random } from '../support/random.ts';
import { VirtualClock } from '../support/virtual-clock.ts';
import type { StoreCall } from '../support/watched-store.ts';
import {
  type AnyStore,
  assertClear,
  collectOnce,
  expectedDisks,
  faultImage,
  LongReader,
  meaningsIn,
  readSome,
} from './world.ts';

/** Of one request, and of a store: see "Retries" there. */
const attemptsMax = 10;
const retriesMax = 32;
const elapsedMaxMs = 90_000;
/** No attempt begins after `elapsedMaxMs`; it has this long to fail. */
const attemptMaxMs = 100;

const disks = await expectedDisks();
const name = parseImageName('app');

interface Operation {
  /** Opens what lives longer than one operation, while the store works. */
  prepare(store: AnyStore): Promise<() => Promise<unknown>>;
  /** Down from the first call of that kind on, or from the first of any. */
  from?: (call: StoreCall) => boolean;
  /** Requests that it may have under way at once. */
  atOnce: number;
}

const isChunk = ({ key }: StoreCall) => key.includes('/chunks/');

const pushing: Operation['prepare'] = async store => {
  const target = await targetOn(store, 'app');
  return () => pushImage(faultImage(2), target);
};

const reading: Operation['prepare'] = async store => {
  const reader = new LongReader(store);
  const { recipe, recipeId } = await reader.catalog.open(name);
  const disk = reader.diskOf(recipe);
  return () => readSome(disk, disks.get(recipeId)!, new Random(1), 1);
};

const operations: Readonly<Record<string, Operation>> = {
  push: { prepare: pushing, atOnce: 2 },
  'push, at the lease': {
    prepare: pushing,
    from: ({ key }) => key.startsWith('pushes/'),
    atOnce: 1,
  },
  'push, at the chunks': { prepare: pushing, from: isChunk, atOnce: 16 },
  'push, at the recipe': {
    prepare: pushing,
    from: ({ kind, key }) => kind === 'put' && key.includes('/recipes/'),
    atOnce: 1,
  },
  'push, at the name': {
    prepare: pushing,
    from: ({ kind, key }) => kind === 'put' && key.startsWith('names/'),
    atOnce: 1,
  },
  'a read of a mounted disk': { prepare: reading, atOnce: 8 },
  'opening a name': {
    prepare: async store => {
      const { catalog } = new LongReader(store);
      return () => catalog.open(name);
    },
    atOnce: 3,
  },
  'a list of names': {
    prepare: async store => {
      const { catalog } = new LongReader(store);
      return async () => {
        for await (const entry of catalog.list()) assert.equal(entry.state, 'readable');
      };
    },
    atOnce: 3,
  },
  'verify, at the chunks': {
    prepare: async store => {
      const { catalog, roots } = new LongReader(store);
      const { recipe } = await catalog.open(name);
      return () => verdictOn(recipe, roots);
    },
    from: isChunk,
    atOnce: 32,
  },
  gc: { prepare: async store => () => collectOnce(store, 0), atOnce: 2 },
  'gc, at the copies': {
    prepare: async store => () => collectOnce(store, 0),
    from: ({ kind }) => kind === 'copy',
    atOnce: 32,
  },
  'gc, at the removals': {
    prepare: async store => () => collectOnce(store, 0),
    from: ({ kind, key }) => kind === 'remove' && key.startsWith('roots/'),
    atOnce: 32,
  },
  rm: {
    prepare: async store => {
      const { catalog } = new LongReader(store);
      return () => catalog.remove(name);
    },
    atOnce: 2,
  },
};

const measured: string[] = [];
after(() => process.stdout.write(measured.map(line => `# ${line}\n`).join('')));

for (const [what, { prepare, from = () => true, atOnce }] of Object.entries(operations)) {
  test(`${what}: few requests, an end in time, and then it works`, async () => {
    const clock = new VirtualClock();
    const faulty = new FaultyStore(new MemoryStore({ now: clock.now }), {
      seed: 1,
      clock,
      rates: {},
    });
    for (const number of [1, 0]) {
      await pushImage(faultImage(number), await targetOn(faulty, 'app'));
    }
    const before = await meaningsIn(faulty.inner, disks);
    const { now, sleep } = clock;
    const random = new Random(1);
    const retrier = new Retrier({ now, sleep, random: () => random.u32() / 2 ** 32 });
    const store = retrying(faulty, retrier);
    const work = await prepare(store);

    let downMs: number | undefined;
    const asked = new Set<string>();
    let requests = 0;
    faulty.rates = call => {
      if (downMs === undefined && from(call)) downMs = clock.now();
      if (downMs === undefined) return {};
      asked.add(`${call.kind} ${call.key}`);
      requests++;
      return { refused: 1 };
    };
    await assert.rejects(work(), (error: unknown) => {
      assertClear(error);
      assert.equal(error.code, 'UNAVAILABLE');
      return true;
    });
    const elapsedMs = clock.now() - downMs!;
    assert.ok(elapsedMs <= elapsedMaxMs + attemptMaxMs, `an end after ${elapsedMs} ms`);
    assert.ok(asked.size <= atOnce + 1, `${[...asked]}: no new request but the end of the lease`);
    const retries = requests - asked.size;
    assert.ok(requests <= attemptsMax * asked.size, `${requests} requests for ${asked.size}`);
    assert.ok(retries <= retriesMax + elapsedMs / 1000 + 1, `${retries} retries`);
    measured.push(`${what}: ${requests} requests for ${asked.size} in ${elapsedMs / 1000} s`);
    assert.deepEqual(await meaningsIn(faulty.inner, disks), before);

    await faulty.calm();
    await work();
    const meanings = await meaningsIn(faulty.inner, disks);
    if (prepare === pushing) assert.notDeepEqual(meanings, before);
    assert.equal(meanings.has(formatImageName(name)), what !== 'rm');
  });
}
