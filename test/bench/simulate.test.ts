/** The simulated fleet: its parts against plain models, and that a seed gives the same bytes. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Clock } from '../../bench/simulate/clock.ts';
import { Fleet } from '../../bench/simulate/fleet.ts';
import { RecencyLists } from '../../bench/simulate/recency.ts';
import { type Scale, smallScale } from '../../bench/simulate/scale.ts';
import { minutesToSteady } from '../../bench/simulate/scenarios.ts';
import { simulate } from '../../bench/simulate/simulate.ts';
import { refillRates } from '../../bench/simulate/sizing.ts';
import { Popularity, World } from '../../bench/simulate/world.ts';
import { MiB } from '../../src/base/limits.ts';
import { seeded } from '../support/random.ts';

const world = new World({ seed: 1, images: 300 });
const shape = { dataShards: 4, parityShards: 1 };

const tinyScale: Scale = {
  ...smallScale,
  images: 1000,
  workers: 8,
  workerCacheBytes: 64 * MiB,
  warmStarts: 20,
  steady: 10,
  settle: 1,
  after: 10,
  startsSampled: 30,
  fleetStarts: 300,
};

test('events happen in order of time, and of planning at the same time', async () => {
  for (const random of seeded(20)) {
    const clock = new Clock();
    const happened: [number, number][] = [];
    for (let planned = 0; planned < 50; planned++) {
      const waitMs = random.below(20);
      clock.after(waitMs, () => happened.push([clock.nowMs, planned]));
    }
    await clock.runUntil(9, () => undefined);
    assert.ok(
      happened.every(([atMs]) => atMs <= 9),
      `seed ${random.seed}`,
    );
    await clock.runUntil(30, () => undefined);
    const sorted = happened.toSorted(([a, b], [c, d]) => a - c || b - d);
    assert.equal(happened.length, 50);
    assert.deepEqual(happened, sorted, `seed ${random.seed}`);
  }
});

test('recency lists do as arrays do', () => {
  for (const random of seeded(50)) {
    const lists = new RecencyLists(3);
    const model: number[][] = [[], [], []];
    for (let step = 0; step < 200; step++) {
      const entry = random.below(20);
      const held = model.findIndex(list => list.includes(entry));
      const list = held === -1 ? random.below(3) : held;
      const there = model[list]!;
      assert.equal(lists.has(entry), held !== -1, `seed ${random.seed}`);
      const without = there.filter(other => other !== entry);
      if (held === -1 && random.chance(0.5)) {
        lists.add(list, entry, entry, 'back');
        model[list] = [...there, entry];
      } else if (held === -1) {
        lists.add(list, entry, entry);
        model[list] = [entry, ...there];
      } else if (random.chance(0.5)) {
        lists.touch(list, entry);
        model[list] = [entry, ...without];
      } else {
        lists.remove(list, entry, entry);
        model[list] = without;
      }
      for (const [at, entries] of model.entries()) {
        assert.equal(lists.last(at), entries.at(-1), `seed ${random.seed}`);
        const bytes = entries.reduce((sum, size) => sum + size, 0);
        assert.equal(lists.bytes[at], bytes, `seed ${random.seed}`);
      }
    }
  }
});

test('any k nodes of a chunk give it; a read after a loss makes it whole again', () => {
  const fleet = new Fleet(world, { nodes: 5, nodeBytes: 1024 * MiB, shape });
  assert.equal(fleet.read(0), false);
  fleet.put(0);
  fleet.put(1);
  fleet.lose(2);
  assert.equal(fleet.read(0), true);
  fleet.return(2);
  assert.equal(fleet.read(0), true); // stores the shard of node 2 again
  fleet.lose(4);
  assert.equal(fleet.read(0), true);
  assert.equal(fleet.read(1), false); // was not read in between
  fleet.put(1);
  assert.equal(fleet.read(1), true);
});

test('nodes forget what was read longest ago, and hold no more than they have', () => {
  const nodeBytes = 4 * MiB;
  const fleet = new Fleet(world, { nodes: 6, nodeBytes, shape });
  fleet.put(0);
  for (let chunk = 1; chunk < 400; chunk++) {
    fleet.put(chunk);
    assert.equal(fleet.read(0), true);
    assert.ok(fleet.bytes <= 6 * nodeBytes);
  }
  assert.equal(fleet.read(1), false);
  assert.equal(fleet.read(399), true);
});

test('a lease is one worker’s until it ends', () => {
  const fleet = new Fleet(world, { nodes: 5, nodeBytes: MiB, shape });
  assert.equal(fleet.lease(7, 0, 2000), true);
  assert.equal(fleet.lease(7, 1999, 2000), false);
  assert.equal(fleet.lease(8, 1999, 2000), true);
  assert.equal(fleet.lease(7, 2000, 2000), true);
});

test('ranks are drawn as often as their share says', () => {
  for (const zipf of [0.8, 1]) {
    const popularity = new Popularity(world, zipf);
    const shares = Array.from({ length: world.images }, (_, rank) => popularity.shareOf(rank));
    const sum = shares.reduce((total, share) => total + share, 0);
    assert.ok(Math.abs(sum - 1) < 1e-9);
    for (const random of seeded(1)) {
      const draws = 50_000;
      let first = 0;
      for (let draw = 0; draw < draws; draw++) if (popularity.next(random) === 0) first++;
      assert.ok(Math.abs(first / draws / shares[0]! - 1) < 0.1, `seed ${random.seed}`);
    }
  }
});

test('the sums of an empty shared cache begin with all reads and end with none', () => {
  const atSeconds = [0, 60, 1e12];
  const popularity = new Popularity(world, 1);
  const [first, later, last] = refillRates(world, popularity, { startsPerSecond: 2, atSeconds });
  const { length: fewest } = world.firstReadsOf(0);
  assert.ok(fewest > 0 && first! > 2 * 20);
  assert.ok(later! < first!);
  assert.equal(last, 0);
});

test('it is steady again when ten minutes are, not when one is', () => {
  const quiet = Array.from({ length: 10 }, () => 1);
  const of = (factors: number[], usual = 1) => minutesToSteady({ factors, usual });
  assert.equal(of(quiet), 0);
  assert.equal(of([5, 0.9, 5, ...quiet]), 3);
  assert.equal(of([5, ...quiet.slice(1)]), -1);
  assert.equal(of([5, ...quiet.slice(1)], 1.5), 0);
});

test('the same seed gives the same bytes, another one others', async () => {
  const textOf = async (seed: number) => {
    const { lines } = await simulate({ ...tinyScale, seed }, () => {});
    return lines.join('\n');
  };
  const text = await textOf(1);
  assert.equal(await textOf(1), text);
  assert.notEqual(await textOf(2), text);
  assert.match(text, /^Seed 1\. 1000 images/);
});

test('shares add up; leases spare the origin; an empty shared cache does not', async () => {
  const { shares, aftermaths } = await simulate(tinyScale, () => {});
  assert.ok(Math.abs(shares.l1 + shares.l2 + shares.l3 - 1) < 1e-9);
  assert.ok(shares.l1 > 0 && shares.l2 > 0);
  const of = (name: RegExp, leases: boolean) => {
    return aftermaths.find(each => name.test(each.name) && each.leases === leases)!;
  };
  assert.equal(of(/new image/, true).repeated, 0);
  assert.ok(of(/new image/, false).repeated > 0);
  assert.equal(of(/a node lost/, true).repeated, 0);
  assert.ok(of(/shared cache restarted/, true).more > 10 * of(/a node lost/, true).more);
});
