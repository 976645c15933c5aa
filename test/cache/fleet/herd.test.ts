/** Many workers that miss the same chunks at once, and what the store sees of it. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Admission } from '../../../src/cache/admission.ts';
import { bounded } from '../../../src/cache/bounded.ts';
import type { ChunkSource, GetOptions, SealedHit } from '../../../src/cache/chunk-source.ts';
import { MemcachedClient } from '../../../src/cache/fleet/client.ts';
import type { FleetServer } from '../../../src/cache/fleet/fleet-config.ts';
import type { FleetSource, FleetSourceOptions } from '../../../src/cache/fleet/fleet-source.ts';
import { leaseKey } from '../../../src/cache/fleet/format.ts';
import { Placement } from '../../../src/cache/fleet/placement.ts';
import { Prefetch, PrefetchShed } from '../../../src/cache/prefetch.ts';
import { tiered } from '../../../src/cache/tiered.ts';
import { MemorySource } from '../../support/memory-source.ts';
import { Random } from '../../support/random.ts';
import { assertSameBytes } from '../../support/same-bytes.ts';
import { type SealedChunk, sealedChunks } from '../../support/sealed-chunks.ts';
import { TcpProxy } from '../../support/tcp-proxy.ts';
import { Fleet, settled, shape, timeoutMs } from './fleet.ts';

class SlowStore extends MemorySource {
  fetches = 0;
  /** The most. */
  atOnce = 0;
  takesMs = 30;
  #running = 0;

  override async get(id: SealedChunk['id'], options: GetOptions): Promise<SealedHit | undefined> {
    this.fetches++;
    this.atOnce = Math.max(this.atOnce, ++this.#running);
    await sleep(this.takesMs);
    this.#running--;
    return super.get(id, options);
  }
}

interface Worker {
  readonly fleet: FleetSource;
  readonly source: ChunkSource;
}

const workersMax = 20;
const readsAtOnce = 5;
const fetchesAtOnceMax = 3;

class Herd {
  readonly store: SlowStore;
  readonly chunks: readonly SealedChunk[];
  readonly workers: readonly Worker[];
  readonly #random: Random;

  constructor(fleet: Fleet, random: Random, options: Partial<FleetSourceOptions> = {}) {
    this.#random = random;
    this.chunks = sealedChunks(random, 50);
    this.store = new SlowStore('store', { chunks: [...this.chunks] });
    this.workers = Array.from({ length: workersMax }, () => {
      const tier = fleet.open({ leaseWaitMaxMs: 5000, ...options });
      const admission = new Admission({
        atOnceMax: fetchesAtOnceMax,
        prefetchAtOnceMax: 1,
        prefetchWaitingMax: 0,
      });
      const store = bounded(this.store, admission);
      return { fleet: tier, source: tiered([tier, store], { log: () => {} }) };
    });
  }

  /** Every worker reads every chunk, in an order of its own; the longest read in milliseconds. */
  async read(workers = this.workers): Promise<number> {
    const longest = await Promise.all(workers.map(worker => this.#readAll(worker)));
    return Math.max(...longest);
  }

  sum(of: 'leasesWon' | 'leasesWaited' | 'leasesInVain' | 'shed' | 'hits'): number {
    return this.workers.reduce((total, { fleet }) => total + fleet.stats()[of], 0);
  }

  async settled(): Promise<void> {
    for (const { fleet } of this.workers) await settled(fleet);
  }

  async #readAll({ source }: Worker): Promise<number> {
    const order = [...this.chunks];
    for (let at = order.length - 1; at > 0; at--) {
      const other = this.#random.below(at + 1);
      [order[at], order[other]] = [order[other]!, order[at]!];
    }
    let longestMs = 0;
    const reader = async () => {
      for (let chunk = order.pop(); chunk !== undefined; chunk = order.pop()) {
        const { id, sealed } = chunk;
        const startedMs = performance.now();
        const hit = await source.get(id, { sizeBytes: sealed.length });
        longestMs = Math.max(longestMs, performance.now() - startedMs);
        assertSameBytes(hit?.sealed, sealed);
      }
    };
    await Promise.all(Array.from({ length: readsAtOnce }, reader));
    return longestMs;
  }
}

/** Two words of the same length, in what is sent to a node. */
class RewritingProxy {
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer(socket => this.#serve(socket));
  readonly #target: FleetServer;
  readonly #from: string;
  readonly #to: string;

  private constructor(target: FleetServer, [from, to]: readonly [string, string]) {
    this.#target = target;
    this.#from = from;
    this.#to = to;
  }

  /** The node behind it. */
  static async start(
    context: TestContext,
    target: FleetServer,
    words: readonly [string, string],
  ): Promise<FleetServer> {
    const proxy = new RewritingProxy(target, words);
    await once(proxy.#server.listen(0, '127.0.0.1'), 'listening');
    context.after(() => {
      proxy.#server.close();
      for (const socket of proxy.#sockets) socket.destroy();
    });
    return { ...target, port: (proxy.#server.address() as AddressInfo).port };
  }

  #serve(client: Socket): void {
    const { host, port } = this.#target;
    const server = connect({ host, port, noDelay: true });
    for (const socket of [client, server]) {
      this.#sockets.add(socket);
      socket.on('error', () => {});
    }
    client.on('close', () => server.destroy());
    server.on('close', () => client.destroy());
    server.pipe(client);
    client.on('data', bytes => {
      for (let at = 0; ; at++) {
        at = bytes.indexOf(this.#from, at);
        if (at < 0) break;
        bytes.write(this.#to, at, 'latin1');
      }
      server.write(bytes);
    });
  }
}

test('20 workers, 50 chunks that nobody has: one fetch each', async context => {
  const herd = new Herd(await Fleet.start(context), new Random(1));
  await herd.read();
  const { fetches } = herd.store;
  context.diagnostic(`${fetches} fetches, ${herd.sum('leasesWaited')} waits`);
  assert.ok(fetches <= 52, `${fetches} fetches`);
  assert.ok(herd.sum('leasesWaited') > 0);
  assert.equal(herd.sum('leasesInVain'), 0);
  await herd.read();
  assert.equal(herd.store.fetches, fetches);
});

test('a store that takes longer than a lease lives is asked once all the same', async context => {
  const herd = new Herd(await Fleet.start(context), new Random(2), { leaseWaitMaxMs: 10_000 });
  const { store, workers } = herd;
  store.takesMs = 2500;
  const chunks = herd.chunks.slice(0, fetchesAtOnceMax);
  const reads = workers.flatMap(({ source }) =>
    chunks.map(({ id, sealed }) => source.get(id, { sizeBytes: sealed.length })),
  );
  await Promise.all(reads);
  assert.equal(store.fetches, chunks.length);
});

test('workers that die with leases cost others a bounded wait, and some fetches', async context => {
  const herd = new Herd(await Fleet.start(context), new Random(3), { leaseWaitMaxMs: 400 });
  const [dying, ...living] = herd.workers;
  const lost = herd.chunks.slice(0, 10);
  // It goes to the store, and nothing is heard of it any more.
  for (const { id, sealed } of lost) await dying!.fleet.get(id, { sizeBytes: sealed.length });
  assert.equal(dying!.fleet.stats().leasesWon, 10);
  await dying!.fleet.close();
  const longestMs = await herd.read(living);
  const fetches = herd.store.fetches;
  context.diagnostic(`${fetches} fetches, at most ${longestMs} ms`);
  assert.ok(fetches <= 50 + living.length * lost.length * 0.6, `${fetches} fetches`);
  await herd.read(living);
  assert.equal(herd.store.fetches, fetches);
});

test('a worker that gives up, or cannot store what it got, lets another one go', async context => {
  const fleet = await Fleet.start(context);
  const herd = new Herd(fleet, new Random(4), { leaseWaitMaxMs: 60_000 });
  const [first, second] = herd.workers as [Worker, Worker];
  const [chunk, other] = herd.chunks as [SealedChunk, SealedChunk];
  const abort = new AbortController();
  const options = { sizeBytes: chunk.sealed.length, signal: abort.signal };
  assert.equal(await first.fleet.get(chunk.id, options), undefined);
  const waits = second.source.get(chunk.id, { sizeBytes: chunk.sealed.length });
  await sleep(20);
  abort.abort();
  assertSameBytes((await waits)?.sealed, chunk.sealed);
  assert.equal(second.fleet.stats().leasesWon, 1);
  assert.equal(await first.fleet.get(other.id, { sizeBytes: other.sealed.length }), undefined);
  const waitsToo = second.source.get(other.id, { sizeBytes: other.sealed.length });
  await sleep(20);
  // Dropped before it is sent.
  const put = first.fleet.put(other.id, other.sealed);
  await first.fleet.drop(other.id);
  await put;
  assertSameBytes((await waitsToo)?.sealed, other.sealed);
});

for (const [what, words] of [
  ['says that all leases are taken', ['ME T', 'MR T']],
  ['gives every lease to everybody', ['ME T', 'MS T']],
] as const) {
  test(`a node that ${what}`, async context => {
    const fleet = await Fleet.start(context);
    const liar = await RewritingProxy.start(context, fleet.nodes[1]!, words);
    const nodes = fleet.nodes.map((node, at) => (at === 1 ? liar : node));
    const herd = new Herd(fleet, new Random(5), { nodes, leaseWaitMaxMs: 300 });
    const { chunks, store } = herd;
    const placement = new Placement(nodes);
    const lied = chunks.filter(({ id }) => placement.place(id, 5)[0] === liar).length;
    assert.ok(lied > 3, `${lied} chunks`);
    await herd.read();
    const fetches = store.fetches;
    context.diagnostic(`${fetches} fetches, ${herd.sum('leasesInVain')} in vain`);
    assert.ok(fetches <= 52 + lied * (workersMax - 1), 'what others fetch is not more');
    assert.ok(herd.sum('leasesInVain') <= workersMax * (4 + readsAtOnce));
    await herd.read();
    assert.equal(store.fetches, fetches);
  });
}

test('a node that answers garbage is no place for leases', async context => {
  const fleet = await Fleet.start(context);
  const proxy = await TcpProxy.start(context, fleet.servers[1]!);
  proxy.fault = { do: 'garbage', bytes: () => Buffer.from('NS no such thing\r\nVA 5 O1\r\n') };
  const nodes = fleet.nodes.map((node, at) => (at === 1 ? { ...node, port: proxy.port } : node));
  const herd = new Herd(fleet, new Random(6), { nodes });
  await herd.read();
  const fetches = herd.store.fetches;
  context.diagnostic(`${fetches} fetches`);
  // Until the breaker is open, in each worker, those that would ask it ask nobody.
  assert.ok(fetches <= 50 + workersMax * 5, `${fetches} fetches`);
});

test('a fleet that is emptied under 20 workers is filled again by one fetch a chunk', async context => {
  const fleet = await Fleet.start(context);
  const herd = new Herd(fleet, new Random(7));
  await herd.read();
  await herd.settled();
  const before = herd.store.fetches;
  const reading = herd.read();
  await sleep(10);
  for (const node of fleet.nodes) await flush(context, node);
  await reading;
  for (let round = 0; round < 2; round++) await herd.read();
  const fetches = herd.store.fetches - before;
  context.diagnostic(`${fetches} fetches`);
  // What is stored while it is emptied may be emptied again.
  assert.ok(fetches <= 2 * 52, `${fetches} fetches`);
});

test('a fleet that is gone and comes back empty is no storm at the store', async context => {
  const fleet = await Fleet.start(context);
  let passedMs = 0;
  const nowMs = () => performance.now() + passedMs;
  const herd = new Herd(fleet, new Random(8), { nowMs });
  await herd.read();
  await herd.settled();
  for (const server of fleet.servers) await server.kill();
  await herd.read();
  const { fetches } = herd.store;
  assert.ok(herd.store.atOnce <= workersMax * fetchesAtOnceMax, `${herd.store.atOnce} at once`);
  for (const server of fleet.servers) await server.restart();
  passedMs += 60_000;
  await herd.read();
  const first = herd.store.fetches - fetches;
  await herd.read();
  const second = herd.store.fetches - fetches - first;
  context.diagnostic(`${fetches} fetches, then ${first}, then ${second}`);
  // The first reads of each worker find out that the nodes are back.
  assert.ok(first <= 52 + workersMax * 3 * readsAtOnce, `${first} fetches`);
  assert.ok(second <= 10, `${second} fetches`);
});

async function flush(context: TestContext, node: FleetServer): Promise<void> {
  const socket = connect({ host: node.host, port: node.port });
  context.after(() => void socket.destroy());
  socket.write('flush_all\r\n');
  const [answer] = await once(socket, 'data');
  assert.equal(String(answer), 'OK\r\n');
}

test('a prefetch takes a lease, and is shed where another worker has it', async context => {
  const fleet = await Fleet.start(context);
  const herd = new Herd(fleet, new Random(8));
  const [first, second] = herd.workers as [Worker, Worker];
  const [chunk, other] = herd.chunks as [SealedChunk, SealedChunk];
  const options = { sizeBytes: chunk.sealed.length };
  assert.equal(
    await first.fleet.get(chunk.id, { ...options, prefetch: new Prefetch() }),
    undefined,
  );
  assert.equal(first.fleet.stats().leasesWon, 1);
  const shed = second.fleet.get(chunk.id, { ...options, prefetch: new Prefetch() });
  await assert.rejects(shed, error => error instanceof PrefetchShed);
  const { hits, misses, shed: count } = second.fleet.stats();
  assert.deepEqual([hits, misses, count], [0, 0, 1]);
  // Somebody waits for it by now.
  const prefetch = new Prefetch();
  prefetch.want();
  const waits = second.fleet.get(chunk.id, { ...options, prefetch });
  await sleep(20);
  await first.fleet.put(chunk.id, chunk.sealed);
  assertSameBytes((await waits)?.sealed, chunk.sealed);
  assert.equal(await first.fleet.get(other.id, options), undefined);
});

test('demand passes prefetches in the queue; one that is wanted is demand', async context => {
  const fleet = await Fleet.start(context);
  const source = fleet.open();
  const chunks = sealedChunks(new Random(9), 200);
  await Promise.all(chunks.map(({ id, sealed }) => source.put(id, sealed)));
  for (const server of fleet.servers) await server.pause();
  const order: string[] = [];
  const ask = (name: string, at: number, prefetch?: Prefetch) => {
    const { id, sealed } = chunks[at]!;
    return source.get(id, { sizeBytes: sealed.length, prefetch }).then(
      () => void order.push(name),
      error => void order.push(error instanceof PrefetchShed ? 'shed' : 'failed'),
    );
  };
  const asked = Array.from({ length: 8 }, (_, at) => ask('first', at));
  const prefetches = Array.from({ length: 65 }, () => new Prefetch());
  for (const [at, prefetch] of prefetches.entries()) asked.push(ask(`p${at}`, 10 + at, prefetch));
  asked.push(ask('demand', 100));
  prefetches[60]!.want();
  await sleep(5);
  assert.deepEqual(order, ['shed']);
  const { reading, waiting, prefetchesWaiting } = source.stats();
  assert.deepEqual([reading, waiting, prefetchesWaiting], [8, 2, 63]);
  for (const server of fleet.servers) server.resume();
  await Promise.all(asked);
  const rest = order.slice(1);
  for (const name of ['demand', 'p60']) {
    assert.ok(rest.indexOf(name) < rest.indexOf('p8'), `${name} in ${rest}`);
  }
  assert.equal(source.stats().hits, 73);
});

test('what stands under the key of a lease is nothing but in the way', async context => {
  const fleet = await Fleet.start(context);
  const herd = new Herd(fleet, new Random(10), { leaseWaitMaxMs: 50 });
  const [chunk] = herd.chunks as [SealedChunk];
  const key = leaseKey(chunk.id, chunk.sealed.length, shape);
  for (const [at, node] of fleet.nodes.entries()) {
    const client = new MemcachedClient(node);
    context.after(() => client.close());
    await client.set(key, [Buffer.alloc(100_000, at)], { timeoutMs });
  }
  const hit = await herd.workers[0]!.source.get(chunk.id, { sizeBytes: chunk.sealed.length });
  assertSameBytes(hit?.sealed, chunk.sealed);
  assert.equal(herd.sum('leasesInVain'), 1);
});
