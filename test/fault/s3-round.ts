/** What a round of operations on a store in S3 does and shows, whichever service it is. */

import assert from 'node:assert/strict';
import { after } from 'node:test';
import { pushImage } from '../../src/push/push.ts';
import { parseImageName } from '../../src/recipe/name.ts';
import type { FaultProxy } from '../support/fault-proxy.ts';
import { targetOn, verdictOn } from '../support/pushing.ts';
import type { Random } from '../support/random.ts';
import type { VirtualClock } from '../support/virtual-clock.ts';
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
} from './world.ts';

export interface S3Place {
  proxy: FaultProxy;
  /** Through the proxy, and past it. */
  store: AnyStore;
  bare: AnyStore;
  clock: VirtualClock;
}

const name = parseImageName('app');
const disks = await expectedDisks();
const recipes = [...disks.keys()];
const tally = { operations: 0, failed: 0, requests: 0, longestMs: 0 };
after(() => process.stdout.write(`# ${JSON.stringify(tally)}\n`));

/** It works, or fails as it should. */
async function attempt({ proxy, clock }: S3Place, work: () => Promise<unknown>): Promise<boolean> {
  const requests = proxy.requests.length;
  const [beganMs, beganVirtualMs] = [performance.now(), clock.now()];
  const done = await work().then(
    () => true,
    (error: unknown) => {
      assertClear(error);
      assert.doesNotMatch(error.message, /reduce your request rate/);
      return false;
    },
  );
  const elapsedMs = clock.now() - beganVirtualMs + performance.now() - beganMs;
  assert.ok(elapsedMs < 600_000, `an end in time, not after ${elapsedMs} ms`);
  assert.ok(proxy.requests.length - requests < 300, 'requests are bounded');
  tally.operations++;
  tally.requests += proxy.requests.length - requests;
  tally.longestMs = Math.max(tally.longestMs, Math.round(elapsedMs));
  if (!done) tally.failed++;
  return done;
}

async function read(reader: LongReader, random: Random): Promise<void> {
  const found = await reader.catalog.resolve(name);
  if (found === undefined) return;
  await readSome(reader.diskOf(found.recipe), disks.get(found.recipeId)!, random, 3);
}

/** Whatever happens: what is read is right, and what the name means is one of what was pushed. */
export async function runRound(place: S3Place, random: Random): Promise<void> {
  const { proxy, store, bare } = place;
  const reader = new LongReader(store);
  const possible = new Set(['']);
  const push = async (number: number) => {
    possible.add(recipes[number]!);
    return attempt(place, async () => {
      await pushImage(faultImage(number), await targetOn(store, 'app'));
    });
  };
  await push(random.pick(imageNumbers));
  await attempt(place, () => read(reader, random));
  await push(random.pick(imageNumbers));
  await attempt(place, () => read(reader, random));
  await attempt(place, async () => {
    const { recipe } = await reader.catalog.open(name);
    await verdictOn(recipe, reader.roots);
  });
  // With a grace, since some of these services do things late.
  await attempt(place, () => collectOnce(store, 3_600_000));
  if (random.chance(0.3)) await attempt(place, () => reader.catalog.remove(name));
  // Once there is no more trouble, and what was under way is over, the same hands do their work.
  proxy.plan = () => undefined;
  await new Promise(resolve => setTimeout(resolve, 30));
  assert.ok(await push(2), 'a push works again');
  assert.ok(await attempt(place, () => read(reader, random)), 'a reader works again');
  await collectOnce(store, 0);
  const meanings = await meaningsIn(bare, disks);
  assert.ok(possible.has(meanings.get('app:latest') ?? ''), 'the name means what was pushed');
  assert.equal(meanings.get('app:latest'), recipes[2]);
}
