import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { coalesced } from '../../src/cache/coalesced.ts';
import { testWrapper } from '../contract/chunk-source.ts';
import { isFault } from '../contract/object-store.ts';
import { FaultySource } from '../support/faulty-source.ts';
import { MemorySource } from '../support/memory-source.ts';
import { Random, seeded } from '../support/random.ts';
import { sealedChunks } from '../support/sealed-chunks.ts';

testWrapper('coalesced', coalesced);

const sizeBytes = 5000;

function create(random = new Random(1)) {
  const chunks = sealedChunks(random, 4);
  const slow = new FaultySource(new MemorySource('inner', { chunks }), 'hold');
  return { slow, source: coalesced(slow), chunks, id: chunks[0]!.id };
}

test('one fetch however many wait, another one afterwards', async () => {
  const { slow, source, id, chunks } = create();
  const waiters = Array.from({ length: 50 }, () => source.get(id, { sizeBytes }));
  const other = source.get(chunks[1]!.id, { sizeBytes });
  assert.equal(slow.gets, 2);
  slow.release();
  for (const hit of await Promise.all(waiters)) assert.equal(hit?.sealed, chunks[0]!.sealed);
  await other;
  slow.plan = () => 'work';
  await source.get(id, { sizeBytes });
  assert.equal(slow.gets, 3);
});

test('a waiter that gives up leaves the fetch to the others', async () => {
  const { slow, source, id } = create();
  const abort = new AbortController();
  const leaver = source.get(id, { sizeBytes, signal: abort.signal });
  const stayer = source.get(id, { sizeBytes, signal: new AbortController().signal });
  const reason = new Error('given up');
  abort.abort(reason);
  await assert.rejects(leaver, error => error === reason);
  assert.deepEqual(slow.abortReasons, []);
  slow.release();
  assert.ok(await stayer);
  assert.equal(slow.gets, 1);
});

test('when the last one gives up, the fetch is aborted and nobody boards it any more', async () => {
  const { slow, source, id } = create();
  const aborts = [new AbortController(), new AbortController()];
  const leavers = aborts.map(({ signal }) => source.get(id, { sizeBytes, signal }));
  for (const abort of aborts) abort.abort(new Error('given up'));
  const late = source.get(id, { sizeBytes });
  for (const leaver of leavers) await assert.rejects(leaver, /given up/);
  assert.equal(slow.abortReasons.length, 1);
  slow.release();
  assert.ok(await late);
  assert.equal(slow.gets, 2);
});

test('a waiter without a signal keeps the fetch alive', async () => {
  const { slow, source, id } = create();
  const abort = new AbortController();
  const stayer = source.get(id, { sizeBytes });
  const leaver = source.get(id, { sizeBytes, signal: abort.signal });
  abort.abort(new Error('given up'));
  await assert.rejects(leaver, /given up/);
  slow.release();
  assert.ok(await stayer);
});

test('a fault is shared and then forgotten', async () => {
  const { slow, source, id } = create();
  slow.plan = () => 'fault';
  const results = await Promise.allSettled([1, 2, 3].map(() => source.get(id, { sizeBytes })));
  for (const result of results) {
    assert.equal(result.status, 'rejected');
    isFault('UNAVAILABLE')(result.reason);
  }
  assert.equal(slow.gets, 1);
  slow.plan = () => 'work';
  assert.ok(await source.get(id, { sizeBytes }));
});

test('a recipe that states a wrong size does not fail the readers of a right one', async () => {
  const { slow, source, id } = create();
  const wrong = source.get(id, { sizeBytes: 1 });
  const right = source.get(id, { sizeBytes });
  slow.release();
  assert.equal(await wrong, undefined);
  assert.equal((await right)?.sealed.length, sizeBytes);
});

test('random comings and goings: everybody gets an answer or their own reason', async () => {
  for (const random of seeded(30)) {
    const { slow, source, chunks } = create(random);
    const outcomes: Promise<void>[] = [];
    for (let step = 0; step < 80; step++) {
      const chunk = random.pick(chunks);
      const abort = new AbortController();
      const reason = new Error(`step ${step}`);
      const options = random.chance(0.8) ? { sizeBytes, signal: abort.signal } : { sizeBytes };
      let abandoned = false;
      const outcome = source.get(chunk.id, options).then(
        hit => assert.equal(hit?.sealed, chunk.sealed),
        error => assert.ok(abandoned && error === reason, `seed ${random.seed}, step ${step}`),
      );
      outcomes.push(outcome);
      if (random.chance(0.4)) {
        if (random.chance(0.5)) await nextTurn();
        abandoned = true;
        abort.abort(reason);
      }
      if (random.chance(0.2)) slow.release();
      if (random.chance(0.3)) await nextTurn();
      assert.ok(slow.running <= 2 * chunks.length);
    }
    slow.plan = () => 'work';
    slow.release();
    await Promise.all(outcomes);
    await nextTurn();
    assert.equal(slow.running, 0, `seed ${random.seed}`);
  }
});
