/**
 * A process that is killed at any change it makes to a store, in the middle of it or after it: every
 * name is whole, and the next push brings the store to where it should be.
 */

import assert from 'node:assert/strict';
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { pushImage } from '../../src/push/push.ts';
import { DirectoryStore } from '../../src/store/directory-store.ts';
import { keysOf } from '../contract/object-store.ts';
import { startCommand } from '../support/processes.ts';
import { targetOn } from '../support/pushing.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { collectOnce, expectedDisks, faultImage, meaningsIn } from './world.ts';

const program = join(import.meta.dirname, 'crash-process.ts');
const moments = ['during', 'after'] as const;
const disks = await expectedDisks();
const recipes = [...disks.keys()];

/** How many changes it made, if it was not killed before its end. */
async function run(folder: string, nth: number, when: string, ...work: string[]) {
  const args = [program, folder, `${nth}`, when, ...work];
  const { exitCode, signal, stdout, stderr } = await startCommand(process.execPath, args).result;
  if (signal === 'SIGKILL') return undefined;
  assert.equal(exitCode, 0, stderr);
  return Number(stdout);
}

/** Of the one name that there is; it is whole. */
async function meaningOf(store: DirectoryStore): Promise<string | undefined> {
  return (await meaningsIn(store, disks)).get('app:latest');
}

/** Two at a time: each is a process of its own. */
async function eachPlace(
  changes: number,
  check: (nth: number, when: (typeof moments)[number]) => Promise<void>,
): Promise<void> {
  const places = Array.from({ length: changes }, (_, nth) => nth);
  const next = async () => {
    for (let nth = places.shift(); nth !== undefined; nth = places.shift()) {
      await check(nth, moments[nth % moments.length]!);
    }
  };
  await Promise.all([next(), next()]);
}

function copyOf(folder: string, to: string): DirectoryStore {
  cpSync(folder, to, { recursive: true });
  return new DirectoryStore(to);
}

test('a push that is killed at any change leaves what was, or what it came for', async context => {
  const folder = temporaryFolder(context);
  const seed = join(folder, 'seed');
  await pushImage(faultImage(0), await targetOn(new DirectoryStore(seed), 'app'));
  const whole = join(folder, 'whole');
  copyOf(seed, whole);
  const changes = await run(whole, -1, '', 'push', 'app', '1');
  assert.ok(
    changes !== undefined && changes >= 6,
    'a lease and its end, chunks, a recipe and a name',
  );
  assert.equal(await meaningOf(new DirectoryStore(whole)), recipes[1]);

  const ends = new Set<string | undefined>();
  await eachPlace(changes, async (nth, when) => {
    const place = join(folder, `${nth}`);
    const store = copyOf(seed, place);
    assert.equal(await run(place, nth, when, 'push', 'app', '1'), undefined, `killed at ${nth}`);
    const meaning = await meaningOf(store);
    assert.ok(meaning === recipes[0] || meaning === recipes[1], `${when} ${nth}: ${meaning}`);
    ends.add(meaning);
    await pushImage(faultImage(1), await targetOn(store, 'app'));
    assert.equal(await meaningOf(store), recipes[1], `after ${when} ${nth}`);
  });
  assert.equal(ends.size, 2, 'before the name was written, and after it');
});

test('a first push that is killed at any change leaves a store for the next', async context => {
  const folder = temporaryFolder(context);
  const changes = await run(join(folder, 'whole'), -1, '', 'push', 'app', '0');
  assert.ok(changes !== undefined && changes >= 8, 'two documents more');
  // The others are those of any push.
  await eachPlace(3, async (nth, when) => {
    const place = join(folder, `${nth}`);
    assert.equal(await run(place, nth, when, 'push', 'app', '0'), undefined);
    const store = new DirectoryStore(place);
    await pushImage(faultImage(0), await targetOn(store, 'app'));
    assert.equal(await meaningOf(store), recipes[0], `${when} ${nth}`);
  });
});

test('a collection that is killed at any change harms nothing, and the next one ends it', async context => {
  const folder = temporaryFolder(context);
  const seed = join(folder, 'seed');
  await pushImage(faultImage(1), await targetOn(new DirectoryStore(seed), 'app'));
  await pushImage(faultImage(0), await targetOn(new DirectoryStore(seed), 'app'));
  const whole = join(folder, 'whole');
  const collected = copyOf(seed, whole);
  const changes = await run(whole, -1, '', 'gc');
  const left = await keysOf(collected, 'roots');
  assert.ok(
    left.every(key => key.startsWith('roots/r0002/')),
    'it went all the way',
  );
  assert.equal(await meaningOf(collected), recipes[0]);

  assert.ok(changes !== undefined && changes > 15, 'copies, markers and removals');
  await eachPlace(changes, async (nth, when) => {
    const place = join(folder, `${nth}`);
    const store = copyOf(seed, place);
    assert.equal(await run(place, nth, when, 'gc'), undefined, `killed at ${nth}`);
    assert.equal(await meaningOf(store), recipes[0], `${when} ${nth}`);
    // What was killed may still hold a root, for an hour.
    for (const lease of await keysOf(store, 'pushes')) await store.remove(lease);
    for (let times = 0; times < 2; times++) await collectOnce(store, 0);
    assert.equal(await meaningOf(store), recipes[0], `after ${when} ${nth}`);
    const kept = (await keysOf(store, 'roots')).map(key => key.replace(/r[0-9]+/, 'r0002'));
    assert.deepEqual(kept, left, `nothing else is left after ${when} ${nth}`);
    if (nth % 4 > 0) return;
    await pushImage(faultImage(1), await targetOn(store, 'app'));
    assert.equal(await meaningOf(store), recipes[1]);
  });
});
