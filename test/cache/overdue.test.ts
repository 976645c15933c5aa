import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Overdue } from '../../src/cache/overdue.ts';

const late = () => new Error('late');

test('what ends in time is as it was', async () => {
  const overdue = new Overdue(10_000);
  assert.equal(await overdue.watch(Promise.resolve(1), late), 1);
  await assert.rejects(overdue.watch(Promise.reject(new Error('its own')), late), /its own/);
  assert.equal(overdue.count, 0);
});

test('what does not is given up, and counted until it ends', async () => {
  const overdue = new Overdue(50);
  const slow = [Promise.withResolvers<number>(), Promise.withResolvers<number>()];
  const watched = slow.map(({ promise }) => overdue.watch(promise, late));
  // A timer of its own is what keeps a daemon alive; the watch's does not.
  const alive = sleep(300);
  for (const one of watched) await assert.rejects(one, /late/);
  assert.equal(overdue.count, 2);
  assert.equal(await overdue.watch(Promise.resolve(1), late), 1);
  slow[0]!.resolve(1);
  slow[1]!.reject(new Error('nobody hears it'));
  await sleep(1);
  assert.equal(overdue.count, 0);
  await alive;
});

test('a process that is busy itself does not give up what has its answer', async () => {
  const overdue = new Overdue(50);
  const answered = overdue.watch(sleep(1, 'answer'), late);
  const until = performance.now() + 200;
  while (performance.now() < until);
  assert.equal(await answered, 'answer');
});
