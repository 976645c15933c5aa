import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Admission } from '../../src/cache/admission.ts';
import { bounded } from '../../src/cache/bounded.ts';
import { coalesced } from '../../src/cache/coalesced.ts';
import { fly, Prefetch, PrefetchShed } from '../../src/cache/prefetch.ts';
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

test('a fetch is a prefetch until somebody who waits joins it', async () => {
  const { slow, source, id } = create();
  const get = (prefetch?: Prefetch) => source.get(id, { sizeBytes, prefetch });
  const [first, second] = [new Prefetch(), new Prefetch()];
  const gets = [get(first), get(second)];
  assert.equal(slow.asked[0]?.prefetch?.wanted, false);
  second.want();
  assert.equal(slow.asked[0]?.prefetch?.wanted, true, 'one of those who prefetch wants it');
  assert.equal(first.wanted, false, 'which is no news to the others');
  slow.release();
  await Promise.all(gets);

  const again = [get(new Prefetch()), get()];
  assert.equal(slow.asked[1]?.prefetch?.wanted, true, 'one who waits joins');
  slow.release();
  await Promise.all(again);

  const demand = [get(), get(new Prefetch())];
  assert.equal(slow.asked[2]?.prefetch, undefined);
  slow.release();
  await Promise.all(demand);
  assert.equal(slow.gets, 3);
});

test('whoever waits gets an answer, at whatever moment a prefetch is shed', async () => {
  for (const random of seeded(40)) {
    const chunks = sealedChunks(random, 3);
    const slow = new FaultySource(new MemorySource('inner', { chunks }), () =>
      random.chance(0.3) ? 'hold' : 'work',
    );
    const limits = { atOnceMax: 2, prefetchAtOnceMax: 1, prefetchWaitingMax: 0 };
    const source = coalesced(bounded(slow, new Admission(limits)));
    let shed = 0;
    const outcomes: Promise<void>[] = [];
    for (let step = 0; step < 150; step++) {
      const { id, sealed } = random.pick(chunks);
      const prefetch = random.chance(0.6) ? new Prefetch() : undefined;
      let wanted = prefetch === undefined;
      const ask = (unlessWanted: Prefetch | undefined) =>
        source.get(id, { sizeBytes, prefetch: unlessWanted });
      const land = () => {
        wanted ||= prefetch!.wanted;
      };
      const outcome = fly(prefetch, ask, land).then(
        hit => assert.equal(hit?.sealed, sealed),
        error => {
          const isShed = error instanceof PrefetchShed && !wanted;
          assert.ok(isShed, `seed ${random.seed}, step ${step}: ${error}`);
          shed++;
        },
      );
      outcomes.push(outcome);
      // Some microtasks later is another moment.
      for (let turns = random.below(5); turns > 0; turns--) await undefined;
      if (random.chance(0.2)) await nextTurn();
      if (random.chance(0.3)) prefetch?.want();
      if (random.chance(0.2)) slow.release();
    }
    slow.plan = () => 'work';
    slow.release();
    await Promise.all(outcomes);
    assert.ok(shed > 0, `seed ${random.seed}: some are shed`);
  }
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
