/** A tier that does not answer, by the clock: what reaches it, and how long who reads it waits. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ChunkId } from '../../src/base/digest.ts';
import { ImgstoreError } from '../../src/base/errors.ts';
import { Admission } from '../../src/cache/admission.ts';
import { type BoundedSource, bounded } from '../../src/cache/bounded.ts';
import type { ChunkSource, GetOptions, SealedHit } from '../../src/cache/chunk-source.ts';
import { Prefetch, PrefetchShed } from '../../src/cache/prefetch.ts';
import { EventClock } from '../support/event-clock.ts';
import { Random, seeded } from '../support/random.ts';
import { sealedChunk } from '../support/sealed-chunks.ts';

const { id, sealed } = sealedChunk(new Random(1).bytes(100));
const sizeBytes = sealed.length;
const placesMax = 32;

/** As a store in S3: a get that fails is tried again for up to 15 s, with growing waits. */
class Store implements ChunkSource {
  readonly tier = 'store';
  state: 'up' | 'down' | 'corrupt' = 'up';
  latencyMs = 20;
  retriesMs = 15_000;
  /** These fail whatever the state. */
  readonly lost = new Set<ChunkId>();
  gets = 0;
  /** Requests: each get makes one or more. */
  requests = 0;
  /** Gets that were aborted. */
  aborted = 0;
  running = 0;
  /** Most at once since it was last set. */
  runningMost = 0;
  readonly #clock: EventClock;

  constructor(clock: EventClock) {
    this.#clock = clock;
  }

  async get(chunk: ChunkId, { signal }: GetOptions): Promise<SealedHit | undefined> {
    this.gets++;
    this.runningMost = Math.max(this.runningMost, ++this.running);
    try {
      return await this.#get(chunk, signal);
    } finally {
      this.running--;
      if (signal?.aborted === true) this.aborted++;
    }
  }

  put = async () => {};
  drop = async () => {};
  close = async () => {};

  async #get(chunk: ChunkId, signal: AbortSignal | undefined): Promise<SealedHit> {
    const untilMs = this.#clock.nowMs() + this.retriesMs;
    for (let waitMaxMs = 100; ; waitMaxMs = Math.min(2 * waitMaxMs, 8000)) {
      this.requests++;
      await this.#clock.sleep(this.latencyMs, signal);
      if (this.state === 'corrupt') throw new ImgstoreError('CORRUPT', 'Cannot read: other bytes');
      if (this.state === 'up' && !this.lost.has(chunk)) {
        return { sealed, tier: 'store', verified: true };
      }
      const waitMs = this.#clock.random() * waitMaxMs;
      if (this.#clock.nowMs() + waitMs > untilMs) break;
      await this.#clock.sleep(waitMs, signal);
    }
    throw new ImgstoreError('UNAVAILABLE', 'Cannot ask the store: it is down', {
      hint: 'Mend it.',
    });
  }
}

interface Read {
  startedMs: number;
  waitedMs: number;
  error: unknown;
}

class World {
  readonly clock: EventClock;
  readonly store: Store;
  readonly admission: Admission;
  readonly source: BoundedSource;
  readonly lines: string[] = [];

  constructor(seed = 1) {
    this.clock = new EventClock(seed);
    this.store = new Store(this.clock);
    const places = { atOnceMax: placesMax, prefetchAtOnceMax: 8, prefetchWaitingMax: 64 };
    this.admission = new Admission(places);
    this.source = bounded(this.store, this.admission, {
      log: (level, message) => void this.lines.push(`${level} ${message}`),
      what: 'the store s3://images',
      time: this.clock,
    });
  }

  /** Never rejects. */
  async read(options: Partial<GetOptions> = {}, chunk = id): Promise<Read> {
    const startedMs = this.clock.nowMs();
    const done = (error: unknown) => {
      return { startedMs, waitedMs: this.clock.nowMs() - startedMs, error };
    };
    return this.source.get(chunk, { sizeBytes, ...options }).then(() => done(undefined), done);
  }

  /** One read after the other until then; the reads. */
  async readOn(untilMs: number): Promise<Read[]> {
    const reads: Read[] = [];
    while (this.clock.nowMs() < untilMs) reads.push(await this.read());
    return reads;
  }

  /** From now until a get has failed, and who waits knows. */
  async goDown(): Promise<void> {
    this.store.state = 'down';
    const { error } = await this.clock.settle(this.read());
    assert.ok(error instanceof ImgstoreError);
    await this.clock.runUntil(this.clock.nowMs() + 15_000);
  }
}

function isOutage(error: unknown): boolean {
  return error instanceof ImgstoreError && error.code === 'UNAVAILABLE';
}

test('find(1) over an outage: the first read is tried for long, each later one for a second', async () => {
  const world = new World();
  const { clock, store } = world;
  await clock.settle(world.read());
  store.state = 'down';
  const reads = await clock.settle(world.readOn(120_000));
  assert.ok(reads.every(({ error }) => isOutage(error)));
  assert.ok(reads[0]!.waitedMs > 5000 && reads[0]!.waitedMs <= 16_000);
  const longest = Math.max(
    ...reads.slice(1).map(({ startedMs, waitedMs }) => {
      return startedMs < 15_000 ? 0 : waitedMs;
    }),
  );
  assert.ok(longest <= 1000, `${longest} ms`);
  assert.ok(reads.length >= 100, `${reads.length} reads in 105 s`);
  const last = reads.at(-1)!.error as ImgstoreError;
  assert.match(last.message, /^Cannot get chunk [0-9a-f]{64} from the store s3:\/\/images: /);
  assert.match(
    last.message,
    /it has not answered for 1(19|20) s: Cannot ask the store: it is down$/,
  );
  assert.match(last.hint!, /reads work when it answers\. Mend it\.$/);
  assert.equal(world.lines.length, 1);
  assert.match(world.lines[0]!, /^warn The store s3:\/\/images does not answer: Cannot ask the/);
});

test('a thousand impatient readers: what reaches the store in an outage of 60 s', async context => {
  for (const [retriesMs, count] of [
    [15_000, 1000],
    [0, 200], // as few come through
  ] as const) {
    const world = new World();
    const { clock, store } = world;
    store.state = 'down';
    store.retriesMs = retriesMs;
    const readers = Array.from({ length: count }, () => world.readOn(60_000));
    await clock.settle(Promise.all(readers));
    const found = `${store.gets} gets, ${store.requests} requests, ${store.runningMost} at once`;
    context.diagnostic(`gets tried for ${retriesMs} ms: ${found}`);
    // 32 before anything is known, then one a second and four at once.
    assert.ok(store.gets <= placesMax + 61, found);
    assert.ok(store.runningMost <= placesMax, found);
    if (retriesMs > 0) assert.ok(store.gets <= placesMax + 4 * 6, found);
  }
});

test('an outage can be seen, with who waits, until it has ended', async () => {
  const { clock, store, source, ...world } = new World();
  assert.deepEqual([source.outage, source.outages], [undefined, 0]);
  store.state = 'down';
  const one = { sizeBytes };
  await clock.settle(source.get(id, one).catch(() => {}));
  const waiting = [source.get(id, one), source.get(id, one)].map(get => get.catch(() => {}));
  await clock.runUntil(clock.nowMs() + 1);
  const { isRecovering, waiting: waiters, reason, beganMs } = source.outage!;
  assert.deepEqual([isRecovering, waiters, source.outages], [false, 2, 1]);
  assert.match(reason, /it is down/);
  assert.ok(beganMs < clock.nowMs());
  store.state = 'up';
  while (source.outage?.isRecovering === false) {
    await clock.settle(source.get(id, one).catch(() => {}));
  }
  assert.equal(source.outage?.waiting, 0);
  await clock.runUntil(clock.nowMs() + 30_000);
  await clock.settle(Promise.all(waiting));
  assert.deepEqual([source.outage, source.outages], [undefined, 1]);
  assert.equal(world.lines.length, 2);
});

test('the store is back: reads work within two seconds, few at first', async context => {
  const waits: number[] = [];
  for (const random of seeded(10)) {
    const world = new World(random.seed);
    const { clock, store } = world;
    await world.goDown();
    const backMs = 40_000 + random.below(3000);
    const readers = Array.from({ length: 100 }, () => world.readOn(backMs + 6000));
    await clock.runUntil(backMs);
    store.state = 'up';
    store.latencyMs = 100;
    const most: number[] = [];
    const underWay = store.running;
    while (world.lines.length < 2) {
      store.runningMost = store.running;
      await clock.runUntil(clock.nowMs() + 100);
      most.push(store.runningMost);
    }
    const opened = most.filter((running, i) => running > (most[i - 1] ?? underWay));
    for (const [i, running] of opened.entries()) {
      assert.ok(running <= 2 ** (i + 1) + underWay, `seed ${random.seed}: ${opened}`);
    }
    assert.match(world.lines[1]!, /^info The store s3:\/\/images answers again after \d+ s$/);
    const reads = (await clock.settle(Promise.all(readers))).flat();
    const worked = reads.filter(({ error }) => error === undefined);
    const first = Math.min(...worked.map(({ startedMs, waitedMs }) => startedMs + waitedMs));
    waits.push(first - backMs);
    const late = reads.filter(({ startedMs }) => startedMs > first);
    assert.ok(late.length > 500 && late.every(({ error }) => error === undefined));
    assert.ok(store.runningMost <= placesMax);
  }
  waits.sort((a, b) => a - b);
  context.diagnostic(
    `back after ${Math.round(waits[5]!)} ms (median), ${Math.round(waits[9]!)} (most)`,
  );
  assert.ok(waits[5]! < 1500 && waits[9]! < 4000, `${waits}`);
});

test('one read after the other finds the store again, and the end is told though few read', async () => {
  const world = new World();
  const { clock, store } = world;
  store.retriesMs = 0; // a folder that is gone fails at once
  await world.goDown();
  const { error } = await clock.settle(world.read());
  assert.ok(isOutage(error));
  store.state = 'up';
  const read = await clock.settle(world.read());
  assert.ok(read.error === undefined || read.waitedMs <= 1000);
  assert.equal((await clock.settle(world.read())).error, undefined);
  await clock.runUntil(clock.nowMs() + 5000);
  assert.match(world.lines[1]!, /answers again/);
  assert.equal(clock.timers, 0, 'nothing runs when nobody reads');
});

test('a short outage fails nobody who comes while it is young', async () => {
  const world = new World();
  const { clock, store } = world;
  store.state = 'down';
  store.retriesMs = 1000;
  const first = await clock.settle(world.read());
  assert.ok(isOutage(first.error));
  const readers = Array.from({ length: 20 }, () => world.read());
  await clock.runUntil(8000);
  store.state = 'up';
  const reads = await clock.settle(Promise.all(readers));
  const failed = reads.filter(({ error }) => error !== undefined);
  // Those which were probes asked themselves.
  assert.ok(failed.length <= 7, `${failed.length}`);
  assert.ok(reads.every(({ waitedMs }) => waitedMs <= 15_000));
});

test('a store that is slow, or lacks one thing, is not out', async () => {
  const world = new World();
  const { clock, store } = world;
  const lost = sealedChunk(new Random(2).bytes(100)).id;
  store.lost.add(lost);
  const reading = world.readOn(100_000);
  for (let i = 0; i < 5; i++) {
    const { error } = await clock.settle(world.read({}, lost));
    assert.ok(isOutage(error));
  }
  assert.ok((await clock.settle(reading)).every(({ error }) => error === undefined));
  assert.deepEqual(world.lines, []);

  store.state = 'down';
  await clock.settle(world.read());
  await clock.runUntil(clock.nowMs() + 20_000);
  assert.equal(world.lines.length, 1);
  store.state = 'up';
  store.latencyMs = 5000;
  const first = await clock.settle(world.readOn(clock.nowMs() + 8000));
  assert.ok(isOutage(first[0]!.error), 'it waits for a second');
  assert.equal(first.at(-1)!.error, undefined, 'its probe goes on, and finds it');
});

test('a store that comes and goes: every read ends, and all is well in the end', async context => {
  for (const random of seeded(6)) {
    const world = new World(random.seed);
    const { clock, store } = world;
    store.retriesMs = random.pick([0, 1000, 15_000]);
    store.latencyMs = 500;
    const readers = Array.from({ length: 20 }, () => world.readOn(300_000));
    for (let turn = 0; turn < 50; turn++) {
      store.state = random.pick(['up', 'down', 'down']);
      await clock.runUntil(clock.nowMs() + random.below(6000));
    }
    store.state = 'up';
    const reads = (await clock.settle(Promise.all(readers))).flat();
    const what = `seed ${random.seed}`;
    const longest = reads.reduce((most, { waitedMs }) => Math.max(most, waitedMs), 0);
    context.diagnostic(
      `${what}: ${reads.length} reads, longest ${Math.round(longest)} ms, ${world.lines.length} lines`,
    );
    assert.ok(longest <= 32_000, `${what}: ${longest} ms`);
    assert.ok(store.runningMost <= placesMax);
    const late = reads.filter(({ startedMs }) => startedMs > 200_000);
    assert.ok(
      late.every(({ error }) => error === undefined),
      what,
    );
    for (const [i, line] of world.lines.entries()) {
      assert.equal(
        line.startsWith('warn'),
        i % 2 === 0,
        `${what}: one line a beginning, one an end`,
      );
    }
    assert.equal(world.lines.length % 2, 0);
  }
});

test('nothing is prefetched in an outage; a prefetch that is wanted waits as a read', async () => {
  const world = new World();
  const { clock, store } = world;
  await world.goDown();
  const unwanted = await clock.settle(world.read({ prefetch: new Prefetch() }));
  assert.ok(unwanted.error instanceof PrefetchShed);
  assert.equal(unwanted.waitedMs, 0);
  const wanted = new Prefetch();
  wanted.want();
  const gets = store.gets;
  const waited = await clock.settle(world.read({ prefetch: wanted }));
  assert.ok(isOutage(waited.error));
  assert.equal(store.gets, gets + 1, 'it is a probe');
});

test('prefetches that wait for a place when an outage begins end', async () => {
  const world = new World();
  const { clock, store } = world;
  store.state = 'down';
  const reads = Array.from({ length: 20 }, () => world.read());
  const prefetches = Array.from({ length: 30 }, () => world.read({ prefetch: new Prefetch() }));
  const ended = await clock.settle(Promise.all(prefetches));
  assert.equal(ended.filter(({ error }) => error instanceof PrefetchShed).length, 22);
  assert.ok(ended.every(({ waitedMs }) => waitedMs <= 16_000));
  await clock.settle(Promise.all(reads));
});

test('who gives up is let go at once, and its probe ends', async () => {
  const world = new World();
  const { clock, store } = world;
  await world.goDown();
  await clock.settle(world.read());
  const aborts = [1, 2, 3].map(() => new AbortController());
  const reads = aborts.map(({ signal }) => world.read({ signal }));
  await clock.runUntil(clock.nowMs() + 500);
  const reason = new Error('given up');
  for (const abort of aborts) abort.abort(reason);
  for (const { error, waitedMs } of await clock.settle(Promise.all(reads))) {
    assert.equal(error, reason);
    assert.equal(waitedMs, 500);
  }
  const { gets } = store;
  await clock.runUntil(clock.nowMs() + 20_000);
  assert.deepEqual([store.gets, store.running, clock.timers], [gets, 0, 0]);
});

test('a get that is given up while it is tried begins no outage, nor does a fault that is an answer', async () => {
  const world = new World();
  const { clock, store } = world;
  store.state = 'down';
  const abort = new AbortController();
  const read = world.read({ signal: abort.signal });
  await clock.runUntil(5000);
  abort.abort(new ImgstoreError('UNAVAILABLE', 'Cannot wait: given up'));
  await clock.settle(read);
  store.state = 'corrupt';
  const { error } = await clock.settle(world.read());
  assert.ok(error instanceof ImgstoreError && error.code === 'CORRUPT');
  assert.deepEqual(world.lines, []);

  await world.goDown();
  store.state = 'corrupt';
  await clock.runUntil(clock.nowMs() + 2000);
  const probe = await clock.settle(world.read());
  assert.ok(probe.error instanceof ImgstoreError && probe.error.code === 'CORRUPT');
  await clock.runUntil(clock.nowMs() + 10_000);
  assert.match(world.lines[1]!, /answers again/);
});

test('close ends what is asked in an outage, and leaves nothing that would run', async () => {
  const world = new World();
  const { clock, store } = world;
  await world.goDown();
  const read = await clock.settle(world.read());
  assert.ok(isOutage(read.error));
  assert.equal(store.running, 1, 'its probe goes on');
  const abort = new AbortController();
  const waiting = world.read({ signal: abort.signal });
  abort.abort(new Error('unmounted'));
  await clock.settle(world.source.close());
  await clock.settle(waiting);
  assert.deepEqual([store.running, clock.timers], [0, 0]);
});

test('close while a store recovers leaves nothing that would run', async () => {
  const world = new World();
  const { clock, store } = world;
  await world.goDown();
  store.state = 'up';
  assert.equal((await clock.settle(world.read())).error, undefined);
  assert.equal(clock.timers, 1);
  await clock.settle(world.source.close());
  assert.equal(clock.timers, 0);
});
