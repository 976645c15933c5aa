import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Admission, type Place } from '../../src/cache/admission.ts';
import { isUnwanted, Prefetch, PrefetchShed } from '../../src/cache/prefetch.ts';
import { type Random, seeded } from '../support/random.ts';

const limits = { atOnceMax: 4, prefetchAtOnceMax: 2, prefetchWaitingMax: 3 };

interface Asker {
  name: string;
  prefetch: Prefetch | undefined;
  abort: AbortController;
  state: 'waiting' | 'admitted' | 'left' | 'shed';
  place: Place | undefined;
}

/** Askers of one admission, who note in `admitted` the order in which they get their places. */
class Crowd {
  readonly admission: Admission;
  readonly askers: Asker[] = [];
  readonly admitted: string[] = [];

  constructor(options = limits) {
    this.admission = new Admission(options);
  }

  ask(name: string, prefetch?: Prefetch): Asker {
    const abort = new AbortController();
    const asker: Asker = { name, prefetch, abort, state: 'waiting', place: undefined };
    this.askers.push(asker);
    this.admission.acquire({ signal: abort.signal, prefetch }).then(
      place => {
        this.admitted.push(name);
        asker.state = 'admitted';
        asker.place = place;
      },
      error => {
        if (error instanceof PrefetchShed) asker.state = 'shed';
        else if (error === abort.signal.reason) asker.state = 'left';
        else throw error;
      },
    );
    return asker;
  }

  /** The names of who gets a place now. */
  async settle(): Promise<string[]> {
    await nextTurn();
    return this.admitted.splice(0);
  }

  release(asker: Asker): void {
    asker.place!.release();
    asker.place = undefined;
  }
}

test('demand has every place, in order of arrival', async () => {
  const crowd = new Crowd();
  const askers = ['a', 'b', 'c', 'd', 'e', 'f', 'g'].map(name => crowd.ask(name));
  assert.deepEqual(await crowd.settle(), ['a', 'b', 'c', 'd']);
  assert.equal(crowd.admission.demandWaiting, 3);
  askers[5]!.abort.abort(new Error('given up'));
  crowd.release(askers[2]!);
  assert.deepEqual(await crowd.settle(), ['e']);
  crowd.release(askers[0]!);
  assert.deepEqual(await crowd.settle(), ['g'], 'who left gives the turn on');
  assert.equal(askers[5]!.state, 'left');
});

test('prefetches leave places free, some wait, and more are shed', async () => {
  const crowd = new Crowd();
  const askers = [1, 2, 3, 4, 5, 6].map(n => crowd.ask(`p${n}`, new Prefetch()));
  assert.deepEqual(await crowd.settle(), ['p1', 'p2']);
  assert.equal(askers[5]!.state, 'shed');
  assert.equal(crowd.admission.prefetchesWaiting, 3);
  crowd.ask('a');
  crowd.ask('b');
  assert.deepEqual(await crowd.settle(), ['a', 'b'], 'demand finds a place at once');
  crowd.ask('c');
  crowd.release(askers[0]!);
  assert.deepEqual(await crowd.settle(), ['c'], 'demand passes what waits longer');
  crowd.release(askers[1]!);
  assert.deepEqual(await crowd.settle(), ['p3']);
});

test('a prefetch that is wanted is demand that comes at that moment', async () => {
  const crowd = new Crowd();
  const prefetches = [1, 2, 3, 4, 5].map(() => new Prefetch());
  const askers = prefetches.map((prefetch, i) => crowd.ask(`p${i + 1}`, prefetch));
  await crowd.settle();
  prefetches[3]!.want();
  assert.deepEqual(await crowd.settle(), ['p4'], 'it has the places of demand');
  prefetches[0]!.want();
  assert.deepEqual(await crowd.settle(), ['p3'], 'one that runs makes room for another prefetch');
  const demand = crowd.ask('a');
  prefetches[4]!.want();
  crowd.ask('b');
  for (const asker of askers.slice(0, 3)) crowd.release(asker);
  assert.deepEqual(await crowd.settle(), ['a', 'p5', 'b']);
  prefetches[4]!.want();
  for (const asker of [askers[3]!, askers[4]!, demand]) crowd.release(asker);
  assert.deepEqual([crowd.admission.running, crowd.admission.prefetching], [1, 0]);
});

test('without room to wait a prefetch is shed at once, and one that is wanted waits', async () => {
  const crowd = new Crowd({ ...limits, prefetchWaitingMax: 0 });
  for (const name of ['a', 'b', 'c', 'd']) crowd.ask(name);
  const shed = crowd.ask('p', new Prefetch());
  const wanted = new Prefetch();
  wanted.want();
  const waits = crowd.ask('q', wanted);
  await crowd.settle();
  assert.deepEqual([shed.state, waits.state], ['shed', 'waiting']);
});

test('places can become fewer and more', async () => {
  const crowd = new Crowd();
  const askers = ['a', 'b', 'c', 'd'].map(name => crowd.ask(name));
  await crowd.settle();
  crowd.admission.limit(2);
  crowd.ask('e');
  crowd.ask('f');
  for (const asker of askers.slice(0, 2)) crowd.release(asker);
  assert.deepEqual(await crowd.settle(), [], 'two run still');
  crowd.release(askers[2]!);
  assert.deepEqual(await crowd.settle(), ['e']);
  crowd.admission.limit(4);
  assert.deepEqual(await crowd.settle(), ['f']);
});

/** What the rules say of any moment, and of who was admitted since the last one. */
function check(crowd: Crowd, waitedBefore: Asker[], released: boolean, what: string): void {
  const { admission, askers } = crowd;
  const held = askers.filter(({ place }) => place !== undefined);
  const unwanted = held.filter(({ prefetch }) => isUnwanted(prefetch));
  const waiting = askers.filter(({ state }) => state === 'waiting');
  const [prefetches, demand] = [true, false].map(is =>
    waiting.filter(({ prefetch }) => isUnwanted(prefetch) === is),
  );
  assert.equal(admission.running, held.length, what);
  assert.equal(admission.prefetching, unwanted.length, what);
  assert.equal(admission.demandWaiting, demand!.length, what);
  assert.equal(admission.prefetchesWaiting, prefetches!.length, what);
  assert.ok(held.length <= limits.atOnceMax, `${what}: places`);
  assert.ok(unwanted.length <= limits.prefetchAtOnceMax, `${what}: places of prefetches`);
  assert.ok(prefetches!.length <= limits.prefetchWaitingMax, `${what}: prefetches that wait`);
  if (demand!.length > 0) assert.equal(held.length, limits.atOnceMax, `${what}: nobody is idle`);
  if (prefetches!.length > 0) {
    const isFull = held.length === limits.atOnceMax;
    assert.ok(
      isFull || unwanted.length === limits.prefetchAtOnceMax,
      `${what}: nor for prefetches`,
    );
  }
  if (!released) return;
  const isAdmitted = ({ state }: Asker) => state === 'admitted';
  const demandStillWaits = waitedBefore.some(asker => demand!.includes(asker));
  const passed = waitedBefore.filter(asker => isAdmitted(asker) && isUnwanted(asker.prefetch));
  assert.ok(!demandStillWaits || passed.length === 0, `${what}: a prefetch passed demand`);
}

async function step(crowd: Crowd, random: Random, name: string): Promise<boolean> {
  const held = crowd.askers.filter(({ place }) => place !== undefined);
  const waiting = crowd.askers.filter(({ state }) => state === 'waiting');
  const prefetches = [...held, ...waiting].filter(({ prefetch }) => isUnwanted(prefetch));
  const before = crowd.admission.prefetchesWaiting;
  switch (random.below(6)) {
    case 0:
      crowd.ask(name);
      return false;
    case 1: {
      const asker = crowd.ask(name, new Prefetch());
      await nextTurn();
      const mustWait = asker.state !== 'admitted';
      const isFull = before === limits.prefetchWaitingMax;
      assert.equal(
        asker.state === 'shed',
        mustWait && isFull,
        `${name}: shed only if too many wait`,
      );
      return false;
    }
    case 2:
      if (prefetches.length > 0) random.pick(prefetches).prefetch!.want();
      return false;
    case 3:
      if (waiting.length > 0) random.pick(waiting).abort.abort(new Error('given up'));
      return false;
    default:
      if (held.length > 0) crowd.release(random.pick(held));
      return true;
  }
}

test('random comings and goings keep every rule', async () => {
  for (const random of seeded(60)) {
    const crowd = new Crowd();
    for (let n = 0; n < 150; n++) {
      const waited = crowd.askers.filter(({ state }) => state === 'waiting');
      const released = await step(crowd, random, `${n}`);
      await crowd.settle();
      check(crowd, waited, released, `seed ${random.seed}, step ${n}`);
    }
    for (let held = 1; held > 0; await crowd.settle()) {
      const holding = crowd.askers.filter(({ place }) => place !== undefined);
      for (const asker of holding) crowd.release(asker);
      held = holding.length;
    }
    const { running, prefetching, demandWaiting, prefetchesWaiting } = crowd.admission;
    assert.deepEqual([running, prefetching, demandWaiting, prefetchesWaiting], [0, 0, 0, 0]);
    assert.ok(
      crowd.askers.every(({ state }) => state !== 'waiting'),
      `seed ${random.seed}: nobody is forgotten`,
    );
  }
});

test('who waits costs the same however many wait', async () => {
  const admission = new Admission({ ...limits, prefetchWaitingMax: 100_000 });
  for (let i = 0; i < 4; i++) await admission.acquire({});
  const aborts = Array.from({ length: 100_000 }, () => new AbortController());
  const waits = aborts.map(({ signal }, i) =>
    admission.acquire({ signal, prefetch: i % 2 === 0 ? undefined : new Prefetch() }),
  );
  const settled = Promise.allSettled(waits);
  const { user } = process.cpuUsage();
  for (const abort of aborts) abort.abort(); // from the front of the queue, one by one
  const cpuMs = (process.cpuUsage().user - user) / 1000;
  await settled;
  assert.equal(admission.demandWaiting + admission.prefetchesWaiting, 0);
  assert.ok(cpuMs < 5000, `${cpuMs} ms for 100,000: quadratic would be minutes`);
});
