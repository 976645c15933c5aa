import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type LeaseNode,
  Leases,
  type Look,
  type TakenLease,
} from '../../../src/cache/fleet/leases.ts';
import type { NoteAnswer, NotedState, NoteOptions } from '../../../src/cache/fleet/node.ts';
import type { ShardedChunk } from '../../../src/cache/fleet/shard.ts';
import { Prefetch } from '../../../src/cache/prefetch.ts';
import { Random } from '../../support/random.ts';
import { sealedChunk } from '../../support/sealed-chunks.ts';

class MemoryNode implements LeaseNode {
  readonly notes = new Set<string>();
  readonly done = new Set<string>();
  readonly renewed: string[] = [];
  readonly name: string;
  takesWrites = true;
  answer: NoteAnswer | undefined;
  asked = 0;
  looked = 0;
  lifetimeSeconds = 0;

  constructor(name: string) {
    this.name = name;
  }

  async note(key: string, options: NoteOptions): Promise<NoteAnswer> {
    this.asked++;
    this.lifetimeSeconds = options.lifetimeSeconds;
    if (this.answer !== undefined) return this.answer;
    if (this.notes.has(key)) return 'taken';
    this.notes.add(key);
    return 'noted';
  }

  async look(key: string): Promise<NotedState> {
    this.looked++;
    if (this.answer !== undefined) return this.answer === 'taken' ? 'noted' : 'failed';
    if (!this.notes.has(key)) return 'free';
    return this.done.has(key) ? 'done' : 'noted';
  }

  async markDone(key: string): Promise<void> {
    this.done.add(key);
  }

  async renew(key: string): Promise<void> {
    this.renewed.push(key);
  }

  async remove(key: string): Promise<void> {
    this.notes.delete(key);
  }
}

function chunkOf(byte: number, sizeBytes = 1000): ShardedChunk {
  const { id } = sealedChunk(Buffer.alloc(1000, byte));
  return { id, sizeBytes, dataShards: 4, parityShards: 1 };
}

class Workers {
  readonly nodes = [new MemoryNode('a'), new MemoryNode('b')] as const;
  readonly random = new Random(1);
  nowMs = 0;

  /** Its clock may leap. */
  open(waitMaxMs = 40): Leases {
    return new Leases({
      nowMs: () => this.nowMs + performance.now(),
      random: () => this.random.u32() / 2 ** 32,
      waitMaxMs,
      timeoutMs: 100,
      run: work => void work,
    });
  }
}

const absent = async (): Promise<Look> => 'absent';

async function taken(leases: Leases, chunk: ShardedChunk, nodes: readonly LeaseNode[]) {
  const answer = await leases.take(chunk, nodes, undefined);
  assert.ok(typeof answer === 'object', `it is taken: ${String(answer)}`);
  return answer;
}

test('one wins, the others wait until they find what it stored', async () => {
  const workers = new Workers();
  const { nodes } = workers;
  const [winner, other] = [workers.open(2000), workers.open(2000)];
  const chunk = chunkOf(1);
  assert.equal(await winner.take(chunk, nodes, undefined), 'won');
  assert.equal(nodes[0].lifetimeSeconds, 2);
  const lease = await taken(other, chunk, nodes);
  const sealed = Buffer.from('sealed');
  let looks = 0;
  const look = async () => {
    looks++;
    return sealed;
  };
  const waiting = other.wait(lease, look, undefined);
  while (nodes[0].looked < 2) await sleep(1);
  assert.equal(looks, 0, 'nobody says that it is there');
  await winner.settle(chunk, true);
  assert.equal(await waiting, sealed);
  assert.equal(looks, 1);
  assert.equal(nodes[0].notes.size, 1, 'who found nothing just before it was stored must wait');
  assert.equal(await winner.take(chunk, nodes, undefined), 'won', 'its own is no reason to wait');
  assert.equal(nodes[1].asked, 0);
  const waited = { leasesWon: 0, leasesWaited: 1, leasesInVain: 0, leasesWaiting: 0 };
  assert.deepEqual(other.stats(), waited);
  assert.equal(winner.stats().leasesWon, 1);
});

test('a lease is renewed while its chunk is fetched, unless nobody waits for it', async context => {
  context.mock.timers.enable({ apis: ['setInterval'] });
  const { nodes, ...workers } = new Workers();
  let nowMs = 0;
  const leases = new Leases({
    nowMs: () => nowMs,
    random: () => workers.random.u32() / 2 ** 32,
    waitMaxMs: 4000,
    timeoutMs: 100,
    run: work => void work,
  });
  const pass = (timeMs: number) => {
    for (let passedMs = 0; passedMs < timeMs; passedMs += 400) {
      nowMs += 400;
      context.mock.timers.tick(400);
    }
    return nodes[0].renewed.splice(0).length;
  };
  const prefetch = new Prefetch();
  await leases.take(chunkOf(1), nodes, undefined);
  await leases.take(chunkOf(2), nodes, undefined, prefetch);
  assert.equal(pass(800), 2);
  prefetch.want();
  assert.equal(pass(800), 4);
  await leases.settle(chunkOf(1), true);
  assert.equal(pass(800), 2);
  const abort = new AbortController();
  await leases.take(chunkOf(3), nodes, abort.signal);
  assert.equal(pass(800), 4);
  abort.abort();
  assert.equal(pass(800), 2);
  assert.ok(pass(100_000) <= 50, 'a fetch that never ends');
  await leases.take(chunkOf(4), nodes, undefined);
  assert.equal(pass(400), 1);
  leases.close();
  assert.equal(pass(4000), 0);
});

test('another size is another lease', async () => {
  const workers = new Workers();
  const liar = workers.open();
  assert.equal(await liar.take(chunkOf(1, 999), workers.nodes, undefined), 'won');
  assert.equal(await workers.open().take(chunkOf(1), workers.nodes, undefined), 'won');
});

test('a lease that is given up goes to one of those that wait', async () => {
  const workers = new Workers();
  const winner = workers.open();
  const others = Array.from({ length: 5 }, () => workers.open(500));
  const chunk = chunkOf(1);
  await winner.take(chunk, workers.nodes, undefined);
  const waits = others.map(async other => {
    const lease = await taken(other, chunk, workers.nodes);
    return other.wait(lease, absent, undefined);
  });
  await sleep(20);
  await winner.settle(chunk, false);
  await Promise.all(waits);
  const sum = (of: 'leasesWon' | 'leasesInVain') =>
    others.reduce((total, other) => total + other.stats()[of], 0);
  assert.deepEqual([sum('leasesWon'), sum('leasesInVain')], [1, 4]);
});

test('an abort gives up the lease and ends a wait, with its reason', async () => {
  const workers = new Workers();
  const [winner, other] = [workers.open(), workers.open(60_000)];
  const winning = new AbortController();
  const waiting = new AbortController();
  const chunk = chunkOf(1);
  assert.equal(await winner.take(chunk, workers.nodes, winning.signal), 'won');
  const lease = await taken(other, chunk, workers.nodes);
  const wait = other.wait(lease, absent, waiting.signal);
  const reason = new Error('given up');
  waiting.abort(reason);
  await assert.rejects(wait, error => error === reason);
  assert.equal(other.stats().leasesWaiting, 0);
  winning.abort();
  assert.equal(workers.nodes[0].notes.size, 0);
  const late = new AbortController();
  const taking = winner.take(chunk, workers.nodes, late.signal);
  late.abort(reason);
  await assert.rejects(taking, error => error === reason);
  assert.equal(workers.nodes[0].notes.size, 0, 'nobody keeps it');
});

test('what cannot be found anyhow is not waited for', async () => {
  const workers = new Workers();
  const leases = workers.open(60_000);
  workers.nodes[0].answer = 'taken';
  const lease = await taken(leases, chunkOf(1), workers.nodes);
  const look = async (): Promise<Look> => 'unreadable';
  assert.equal(await leases.wait(lease, look, undefined), undefined);
  assert.equal(leases.stats().leasesInVain, 0);
});

test('nodes that take no writes or have no memory are passed over; one that fails gives none', async () => {
  const workers = new Workers();
  const [a, b] = workers.nodes;
  const leases = workers.open();
  a.takesWrites = false;
  assert.equal(await leases.take(chunkOf(1), workers.nodes, undefined), 'won');
  assert.deepEqual([a.asked, b.asked], [0, 1]);
  a.takesWrites = true;
  a.answer = 'refused';
  assert.equal(await leases.take(chunkOf(4), workers.nodes, undefined), 'won');
  assert.deepEqual([a.asked, b.asked], [1, 2]);
  a.takesWrites = false;
  b.answer = 'failed';
  assert.equal(await leases.take(chunkOf(2), workers.nodes, undefined), 'none');
  b.takesWrites = false;
  assert.equal(await leases.take(chunkOf(3), workers.nodes, undefined), 'none');
  assert.deepEqual([a.asked, b.asked], [1, 3]);
});

test('a node whose leases are waited for in vain is passed over for a while, longer each time', async () => {
  const workers = new Workers();
  const { nodes } = workers;
  const leases = workers.open();
  nodes[0].answer = 'taken';
  const all = async (count: number) => {
    const waits = Array.from({ length: count }, async (_, i) => {
      const answer = await leases.take(chunkOf(i), nodes, undefined);
      if (typeof answer !== 'object') return;
      await leases.wait(answer, absent, undefined);
      leases.arrived(chunkOf(i));
    });
    await Promise.all(waits);
  };
  await all(5);
  assert.equal(leases.stats().leasesInVain, 5);
  const { asked } = nodes[0];
  await all(10);
  assert.equal(nodes[0].asked, asked, 'the next node gives leases');
  assert.equal(leases.stats().leasesWon, 10);
  workers.nowMs += 210;
  await all(20);
  assert.equal(leases.stats().leasesInVain, 6, 'one tries again');
  workers.nowMs += 150;
  await all(20);
  assert.equal(leases.stats().leasesInVain, 6);
  workers.nowMs += 3000;
  const lease = await taken(leases, chunkOf(1), nodes);
  await leases.wait(lease, async () => Buffer.alloc(1), undefined);
  await all(3);
  assert.equal(leases.stats().leasesInVain, 9, 'all wait for it again');
});

test('while the store is slow, nobody is blamed for waits in vain', async () => {
  const workers = new Workers();
  const { nodes } = workers;
  const leases = workers.open();
  nodes[0].answer = 'taken';
  for (let round = 0; round < 3; round++) {
    const chunks = Array.from({ length: 5 }, (_, i) => chunkOf(10 * round + i));
    for (const chunk of chunks) {
      await leases.wait(await taken(leases, chunk, nodes), absent, undefined);
    }
    // Of the last round, nothing comes.
    workers.nowMs += round < 2 ? 30 : 20_000;
    if (round < 2) for (const chunk of chunks) leases.arrived(chunk);
  }
  assert.equal(leases.stats().leasesInVain, 15);
  await taken(leases, chunkOf(100), nodes);
});

test('those that wait already end it with the fifth in vain', async () => {
  const workers = new Workers();
  workers.nodes[0].answer = 'taken';
  const leases = workers.open(60_000);
  const long = await taken(leases, chunkOf(1), workers.nodes);
  const short: TakenLease[] = [];
  for (let i = 2; i < 7; i++) short.push(await taken(leases, chunkOf(i), workers.nodes));
  const wait = leases.wait(long, absent, undefined);
  for (const { end } of short) end('bad');
  assert.equal(await wait, undefined);
  assert.equal(leases.stats().leasesInVain, 0);
});

test('so many wait, and one more does not', async () => {
  const workers = new Workers();
  workers.nodes[0].answer = 'taken';
  const leases = workers.open(60_000);
  const abort = new AbortController();
  const waits: Promise<unknown>[] = [];
  for (let i = 0; i < 256; i++) {
    const lease = await taken(leases, chunkOf(i), workers.nodes);
    waits.push(leases.wait(lease, absent, abort.signal));
  }
  assert.equal(await leases.take(chunkOf(1), workers.nodes, undefined), 'none');
  abort.abort();
  await Promise.allSettled(waits);
  assert.equal(leases.stats().leasesWaiting, 0);
});
