import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import type { FleetSource, FleetStats } from '../../../src/cache/fleet/fleet-source.ts';
import { headerSizeBytes } from '../../../src/cache/fleet/format.ts';
import type { NodeStats } from '../../../src/cache/fleet/node.ts';
import { makeShards } from '../../../src/cache/fleet/shard.ts';
import { testChunkSource } from '../../contract/chunk-source.ts';
import { Random } from '../../support/random.ts';
import { assertSameBytes } from '../../support/same-bytes.ts';
import { type SealedChunk, sealedChunk } from '../../support/sealed-chunks.ts';
import { type ConnectionFault, TcpProxy } from '../../support/tcp-proxy.ts';
import { Fleet, key, serverOf, settled, shape, timeoutMs } from './fleet.ts';

function randomChunks(random: Random, count: number): SealedChunk[] {
  return Array.from({ length: count }, (_, i) =>
    sealedChunk(Buffer.alloc(1000 + 977 * i, random.bytes(61))),
  );
}

async function keep(source: FleetSource, chunks: readonly SealedChunk[]): Promise<void> {
  await Promise.all(chunks.map(({ id, sealed }) => source.put(id, sealed)));
}

/** The hits among them; each has the right bytes. */
async function read(source: FleetSource, chunks: readonly SealedChunk[]): Promise<number> {
  let hits = 0;
  for (const { id, sealed } of chunks) {
    const hit = await source.get(id, { sizeBytes: sealed.length });
    if (hit === undefined) continue;
    assertSameBytes(hit.sealed, sealed);
    assert.deepEqual([hit.tier, hit.verified], ['l2', true]);
    hits++;
  }
  return hits;
}

function totals({ hits, misses, degraded, repairs }: FleetStats) {
  return { hits, misses, degraded, repairs };
}

function wrongOf(stats: Pick<FleetStats, 'nodes'>, at: number): NodeStats['wrong'] {
  return stats.nodes[at]!.wrong;
}

const faults: readonly ConnectionFault[] = [
  // More than twice what is waited: a process that is busy waits so long.
  { do: 'delay', waitMs: 600 },
  { do: 'stall' },
  { do: 'reset' },
  { do: 'garbage', bytes: () => new Random(1).bytes(3000) },
  { do: 'garbage', bytes: () => Buffer.from('VA 100000000 O0\r\n') },
  { do: 'garbage', bytes: () => Buffer.from('EN\r\n') },
  { do: 'flip' },
];

for (const [at, fault] of faults.entries()) {
  test(`one node of five: ${fault.do} (${at}); every read is a hit, and it recovers`, async context => {
    const fleet = await Fleet.start(context);
    const proxy = await TcpProxy.start(context, fleet.servers[2]!);
    const nodes = fleet.nodes.map((node, i) => (i === 2 ? { ...node, port: proxy.port } : node));
    let passedMs = 0;
    const nowMs = () => performance.now() + passedMs;
    const source = fleet.open({ nodes, waitMaxMs: 250, nowMs });
    const chunks = randomChunks(new Random(20 + at), 40);
    await keep(source, chunks);
    proxy.fault = fault;
    assert.equal(await read(source, chunks), 40);
    await settled(source);
    const { breaker, opened } = source.stats().nodes[2]!;
    // That it has nothing is no fault of a node.
    if (at !== 5) assert.ok(breaker !== 'closed' && opened === 1, `${breaker}, ${opened}`);
    proxy.fault = undefined;
    for (const chunk of chunks) {
      passedMs += 60_000;
      assert.equal(await read(source, [chunk]), 1);
      await settled(source);
    }
    assert.equal(source.stats().nodes[2]!.breaker, 'closed');
    assert.equal(source.stats().misses, 0);
  });
}

testChunkSource('fleet', async context => {
  const fleet = await Fleet.start(context);
  const source = fleet.open();
  const seed = ({ id, sealed }: SealedChunk) => source.put(id, sealed);
  return { source, seed, keepsPuts: true, forgetsSeeds: true };
});

for (const [dataShards, parityShards, nodes] of [
  [1, 0, 1],
  [1, 4, 5],
  [3, 2, 6],
  [16, 4, 20],
] as const) {
  test(`${dataShards} + ${parityShards} on ${nodes} nodes, as many of them killed`, async context => {
    const fleet = await Fleet.start(context, nodes);
    const source = fleet.open({ shape: { dataShards, parityShards } });
    const chunks = randomChunks(new Random(1), 15);
    await keep(source, chunks);
    assert.equal(await read(source, chunks), 15);
    for (const server of fleet.servers.slice(0, parityShards)) await server.kill();
    assert.equal(await read(source, chunks), 15);
    if (parityShards < nodes) await fleet.servers[parityShards]!.kill();
    assert.ok((await read(source, chunks)) < 15);
  });
}

test('a killed node costs nothing; two cost the cache, not the read', async context => {
  const fleet = await Fleet.start(context);
  const source = fleet.open({ nowMs: () => 0 });
  const chunks = randomChunks(new Random(2), 30);
  await keep(source, chunks);
  await fleet.servers[1]!.kill();
  assert.equal(await read(source, chunks), 30);
  await settled(source);
  const stats = source.stats();
  assert.equal(stats.nodes[1]!.breaker, 'open');
  assert.deepEqual(totals(stats), { hits: 30, misses: 0, degraded: 30, repairs: 0 });
  await fleet.servers[2]!.kill();
  assert.equal(await read(source, chunks), 0);
  await settled(source);
  const asked = source.stats().nodes[0]!.asked;
  assert.equal(await read(source, chunks), 0);
  assert.ok(source.stats().nodes[0]!.asked <= asked + 6, 'nobody is asked in vain');
  await keep(source, chunks);
  assert.equal(source.stats().putsDeclined, 30);
  assert.match(
    fleet.lines[0]!,
    /^warn Shared cache node n1 is passed over: Cannot ask memcached at/,
  );
  assert.deepEqual(fleet.lines.length, 2);
});

test('a node that comes back empty is filled again by reads', async context => {
  const fleet = await Fleet.start(context);
  let nowMs = 0;
  const source = fleet.open({ nowMs: () => nowMs, random: () => 0.5 });
  const chunks = randomChunks(new Random(3), 20);
  await keep(source, chunks);
  await fleet.servers[3]!.kill();
  assert.equal(await read(source, chunks), 20);
  await settled(source);
  await fleet.servers[3]!.restart();
  nowMs += 60_000;
  for (let round = 0; round < 3; round++) {
    for (const chunk of chunks) {
      assert.equal(await read(source, [chunk]), 1);
      await settled(source);
    }
  }
  assert.match(fleet.lines.at(-1)!, /^info Shared cache node n3 works again/);
  const { repairs, degraded } = source.stats();
  assert.ok(repairs >= 20 && repairs <= 23, `${repairs} repairs`);
  await read(source, chunks);
  await settled(source);
  assert.equal(source.stats().degraded, degraded);
  await fleet.servers[0]!.kill();
  assert.equal(await read(source, chunks), 20, 'what was stored again is of use');
});

test('while two of eight nodes are out, others stand in for them', async context => {
  const fleet = await Fleet.start(context, 8);
  let nowMs = 0;
  const source = fleet.open({ nowMs: () => nowMs, random: () => 0.5 });
  const [before, after] = [randomChunks(new Random(8), 30), randomChunks(new Random(9), 30)];
  const pass = async (rounds: number) => {
    for (let round = 0; round < rounds; round++) {
      nowMs += 20_000;
      for (const chunk of before)
        if ((await read(source, [chunk])) === 0) await keep(source, [chunk]);
      await settled(source);
    }
  };
  await keep(source, before);
  for (const at of [2, 5]) await fleet.servers[at]!.kill();
  await pass(1);
  assert.ok(
    source.stats().putsDeclined > 0,
    'they may be back at once: nothing lies on fewer than 4',
  );

  await pass(4);
  const { putsDeclined } = source.stats();
  await keep(source, [...before, ...after]);
  assert.equal(source.stats().putsDeclined, putsDeclined);
  assert.equal(await read(source, [...before, ...after]), 60);
  await settled(source);
  await fleet.servers[0]!.kill();
  assert.equal(await read(source, [...before, ...after]), 60, 'with a parity shard to spare');

  for (const at of [0, 2, 5]) await fleet.servers[at]!.restart();
  await pass(4);
  for (const { breaker } of source.stats().nodes) assert.equal(breaker, 'closed');
  const hits = await read(source, after);
  assert.ok(hits >= 25, `${hits} of 30 hits: what stood in is asked while its place is empty`);
  await settled(source);
  await keep(source, after);
  assert.equal(await read(source, after), 30, 'on the nodes that have them when all is well');
});

test('a stopped node is not waited for, unless it is needed', async context => {
  const fleet = await Fleet.start(context);
  const source = fleet.open({ waitMaxMs: 200, nowMs: () => 0 });
  const chunks = randomChunks(new Random(4), 20);
  await keep(source, chunks);
  assert.equal(await read(source, chunks), 20);
  await fleet.servers[0]!.pause();
  const startedMs = performance.now();
  assert.equal(await read(source, chunks), 20);
  assert.ok(performance.now() - startedMs < 20 * 200, 'they did not wait');
  await settled(source);
  assert.equal(source.stats().nodes[0]!.breaker, 'open', 'late answers count');
  await fleet.servers[1]!.pause();
  const secondMs = performance.now();
  assert.equal(await read(source, chunks.slice(0, 1)), 0);
  assert.ok(performance.now() - secondMs < 5000, 'a miss after a bounded wait');
});

test('a full fleet keeps what it can; reads are right', async context => {
  const fleet = await Fleet.start(context, 5, { memoryMiB: 2 });
  const source = fleet.open();
  const random = new Random(5);
  const chunks = Array.from({ length: 40 }, () =>
    sealedChunk(Buffer.alloc(1_000_000, random.bytes(61))),
  );
  for (const chunk of chunks) await keep(source, [chunk]);
  const hits = await read(source, chunks);
  assert.ok(hits < 40, `${hits} of 40`);
  for (const chunk of chunks) {
    await keep(source, [chunk]);
    await read(source, [chunk]);
  }
});

test('items above a server’s limit are refused, and counted', async context => {
  const fleet = await Fleet.start(context, 5, { flags: ['-I', '128k', '-o', 'slab_chunk_max=64'] });
  const source = fleet.open();
  const chunk = sealedChunk(Buffer.alloc(600_000, 1));
  await keep(source, [chunk]);
  assert.equal(await read(source, [chunk]), 0);
  for (const node of source.stats().nodes) assert.deepEqual([node.refused, node.stored], [1, 0]);
});

test('damaged, unknown and foreign shards are counted, passed over and replaced', async context => {
  const fleet = await Fleet.start(context);
  const [other, ...chunks] = randomChunks(new Random(6), 8) as [SealedChunk, ...SealedChunk[]];
  const flipped = (value: Buffer, at: number) => {
    const copy = Buffer.from(value);
    copy[at]! ^= 0x10;
    return copy;
  };
  for (const [kind, damage] of [
    ['damaged', (value: Buffer) => flipped(value, value.length - 1)],
    ['damaged', (value: Buffer) => value.subarray(0, value.length - 1)],
    ['unknown', () => Buffer.from('neither a shard nor anything')],
    ['unknown', () => Buffer.alloc(0)],
    ['foreign', (value: Buffer) => flipped(value, headerSizeBytes - 20)],
    ['foreign', (value: Buffer) => Buffer.concat([value, Buffer.alloc(1)])],
    ['foreign', () => fleet.value(2, other)],
  ] as const) {
    const source = fleet.open();
    // What was repaired just now is not repaired again.
    const chunk = chunks.pop()!;
    await keep(source, [chunk, other]);
    const right = await fleet.value(2, chunk);
    await fleet.client(2).set(key(chunk.id), [await damage(right)], { timeoutMs });
    // It is of no concern to a read that has the other four first.
    for (let reads = 0; reads < 200 && wrongOf(source.stats(), 2)[kind] === 0; reads++) {
      assert.equal(await read(source, [chunk]), 1);
      await settled(source);
    }
    const { misses, degraded, repairs, ...stats } = source.stats();
    assert.equal(wrongOf(stats, 2)[kind], 1, kind);
    assert.deepEqual({ misses, degraded, repairs }, { misses: 0, degraded: 1, repairs: 1 });
    assertSameBytes(await fleet.value(2, chunk), right);
    assert.match(fleet.lines.at(-1)!, /^warn Shared cache node n2: its shard of chunk/);
    await source.close();
  }
});

/** Right in all but its payload: what a node, or another client, may have made up. */
function lieAbout(chunk: SealedChunk, index: number, random: Random): Buffer {
  const made = makeShards({ id: chunk.id, ...shape }, random.bytes(chunk.sealed.length))[index]!;
  return Buffer.concat([made.header, made.payload]);
}

test('a node that lies with a right checksum is found out, named and given the truth', async context => {
  const fleet = await Fleet.start(context);
  const random = new Random(7);
  const chunks = randomChunks(random, 10);
  for (const liar of [0, 4]) {
    const source = fleet.open();
    await keep(source, chunks);
    for (const chunk of chunks) {
      const right = await fleet.value(liar, chunk);
      const lie = lieAbout(chunk, right[7]!, random);
      await fleet.client(liar).set(key(chunk.id), [lie], { timeoutMs });
      const found = wrongOf(source.stats(), liar).lie;
      assert.equal(await read(source, [chunk]), 1);
      await settled(source);
      if (source.stats().nodes[liar]!.breaker !== 'closed') break;
      // Nothing depends on a lie that comes when the first four are there.
      if (wrongOf(source.stats(), liar).lie === found) continue;
      assertSameBytes(await fleet.value(liar, chunk), right);
    }
    const { nodes } = source.stats();
    const lies = nodes.map(({ wrong }) => wrong.lie);
    assert.ok(
      lies.every((count, at) => count === 0 || at === liar),
      `${lies}`,
    );
    assert.ok(lies[liar]! > 0, `${lies}`);
    await source.close();
  }
});

test('more lies than parity: a miss, and what is put then is right', async context => {
  const fleet = await Fleet.start(context);
  const source = fleet.open();
  const random = new Random(8);
  const [chunk] = randomChunks(random, 1) as [SealedChunk];
  await keep(source, [chunk]);
  for (const liar of [1, 3]) {
    const index = (await fleet.value(liar, chunk))[7]!;
    const lie = lieAbout(chunk, index, random);
    await fleet.client(liar).set(key(chunk.id), [lie], { timeoutMs });
  }
  assert.equal(await read(source, [chunk]), 0);
  await settled(source);
  for (const node of source.stats().nodes) assert.equal(node.breaker, 'closed', 'nobody is blamed');
  await keep(source, [chunk]);
  assert.equal(await read(source, [chunk]), 1);
});

test('who asks for a wrong size gets a miss, and blames and changes nothing', async context => {
  const fleet = await Fleet.start(context);
  const source = fleet.open();
  const [chunk] = randomChunks(new Random(9), 1) as [SealedChunk];
  await keep(source, [chunk]);
  for (let i = 1; i < 50; i++) {
    assert.equal(await source.get(chunk.id, { sizeBytes: chunk.sealed.length + 8 * i }), undefined);
    assert.equal(await source.get(chunk.id, { sizeBytes: i }), undefined);
  }
  await settled(source);
  const stats = source.stats();
  for (const node of stats.nodes) assert.equal(node.breaker, 'closed');
  assert.equal(stats.repairs, 0);
  assert.equal(await read(source, [chunk]), 1);
});

test('clients with different lists of nodes find what the others stored', async context => {
  const fleet = await Fleet.start(context, 8);
  const random = new Random(10);
  const chunks = randomChunks(random, 60);
  const all = fleet.open();
  const fewer = fleet.open({ nodes: fleet.nodes.slice(1) });
  await keep(fewer, chunks.slice(0, 30));
  await keep(all, chunks.slice(30));
  // One node more or less: at most one of the five shards is elsewhere.
  assert.equal(await read(all, chunks), 60);
  assert.equal(await read(fewer, chunks), 60);
  await settled(all);
  await settled(fewer);
  const renamed = fleet.nodes.map((node, at) => ({ ...node, name: `other${(at * 3) % 8}` }));
  const stranger = fleet.open({ nodes: renamed });
  for (let round = 0; round < 3; round++) {
    await keep(stranger, chunks.slice(0, 20 * round));
    for (const source of [all, fewer, stranger]) {
      await read(source, chunks);
      await settled(source);
    }
  }
});

test('another shape is another cache', async context => {
  const fleet = await Fleet.start(context);
  const one = fleet.open();
  const two = fleet.open({ shape: { dataShards: 2, parityShards: 2 } });
  const chunks = randomChunks(new Random(11), 5);
  await keep(one, chunks);
  assert.equal(await read(two, chunks), 0);
  await keep(two, chunks);
  assert.equal(await read(one, chunks), 5);
  assert.equal(await read(two, chunks), 5);
});

test('random damage to random shards, under reads by two clients', async context => {
  const fleet = await Fleet.start(context, 6);
  const random = new Random(12);
  const chunks = randomChunks(random, 12);
  const sources = [fleet.open(), fleet.open({ nodes: fleet.nodes.slice(0, 5) })];
  const clients = fleet.nodes.map((_, at) => fleet.client(at));
  for (let round = 0; round < 150; round++) {
    const source = random.pick(sources);
    const chunk = random.pick(chunks);
    const at = random.below(6);
    const action = random.below(4);
    if (action === 0) await keep(source, [chunk]);
    else if (action === 1) await clients[at]!.delete(key(chunk.id), { timeoutMs });
    else if (action === 2) {
      const lie = lieAbout(chunk, random.below(5), random);
      await clients[at]!.set(key(chunk.id), [lie], { timeoutMs });
    } else {
      const other = await fleet.value(at, random.pick(chunks));
      const value = typeof other === 'string' ? Buffer.from('x') : Buffer.from(other);
      value[random.below(value.length)]! ^= 1;
      await clients[at]!.set(key(chunk.id), [value], { timeoutMs });
    }
    await read(source, [chunk, random.pick(chunks)]); // compares
  }
  context.diagnostic(`seed ${random.seed}: ${JSON.stringify(sources.map(s => totals(s.stats())))}`);
});

test('an abort while nodes are slow rejects at once, and they are not blamed for it', async context => {
  const fleet = await Fleet.start(context);
  const source = fleet.open();
  const [chunk] = randomChunks(new Random(13), 1) as [SealedChunk];
  await keep(source, [chunk]);
  for (const server of fleet.servers) await server.pause();
  const abort = new AbortController();
  const { id, sealed } = chunk;
  const asked = source.get(id, { sizeBytes: sealed.length, signal: abort.signal });
  const reason = new Error('given up');
  await sleep(5);
  abort.abort(reason);
  await assert.rejects(asked, error => error === reason);
  for (const server of fleet.servers) server.resume();
  assert.equal(await read(source, [chunk]), 1);
  await settled(source);
  for (const node of source.stats().nodes) assert.equal(node.breaker, 'closed');
});

test('more reads at once than this process can do are no fault of the nodes', async context => {
  const fleet = await Fleet.start(context);
  const source = fleet.open({ waitMaxMs: 50 });
  const chunk = sealedChunk(Buffer.alloc(1_000_000, 1));
  await keep(source, [chunk]);
  await Promise.all(Array.from({ length: 150 }, () => read(source, [chunk])));
  const { nodes } = source.stats();
  assert.deepEqual(
    nodes.map(node => node.opened),
    [0, 0, 0, 0, 0],
  );
});

test('when all nodes are silent for a moment, none is blamed, and leases are asked for', async context => {
  const fleet = await Fleet.start(context);
  let nowMs = 0;
  const source = fleet.open({ waitMaxMs: 20, nowMs: () => nowMs });
  const chunks = randomChunks(new Random(18), 8);
  await keep(source, chunks);
  const breakers = () => new Set(source.stats().nodes.map(({ breaker }) => breaker));
  const rounds = async (count: number) => {
    for (let round = 0; round < count; round++) {
      assert.equal(await read(source, chunks), 0);
      await settled(source);
    }
  };
  nowMs += 10;
  for (const server of fleet.servers) await server.pause();
  await rounds(6);
  assert.deepEqual([...breakers()], ['closed']);
  nowMs += 1000;
  await rounds(6);
  assert.ok(!breakers().has('closed'), 'they are gone');
  for (const server of fleet.servers) server.resume();
});

test('reads beyond the bound go on to the next tier at once', async context => {
  const fleet = await Fleet.start(context);
  const source = fleet.open();
  const [chunk] = randomChunks(new Random(17), 1) as [SealedChunk];
  await keep(source, [chunk]);
  for (const server of fleet.servers) await server.pause();
  const asked = Array.from({ length: 300 }, () => read(source, [chunk]));
  await nextTurn();
  const { reading, waiting, turnedAway, misses } = source.stats();
  assert.deepEqual([reading, waiting, turnedAway, misses], [8, 256, 36, 36]);
  for (const server of fleet.servers) server.resume();
  const hits = (await Promise.all(asked)).reduce((total, count) => total + count, 0);
  assert.equal(hits, 264);
});

test('puts beyond the bound are declined at once; close waits for the rest', async context => {
  const fleet = await Fleet.start(context);
  const source = fleet.open();
  const random = new Random(14);
  const chunks = Array.from({ length: 80 }, () =>
    sealedChunk(Buffer.alloc(1_000_000, random.bytes(61))),
  );
  const offers = keep(source, chunks);
  const { putsDeclined } = source.stats();
  assert.equal(putsDeclined, 80 - Math.floor((64 * 1024 * 1024) / 1_000_000));
  await source.close();
  assert.equal(source.stats().puts, 80 - putsDeclined);
  await offers;
  await keep(source, chunks.slice(0, 1));
  assert.equal(source.stats().putsDeclined, putsDeclined + 1);
  assert.equal(await read(source, chunks.slice(0, 1)), 0);
});

test('what is dropped while it waits to be stored is not stored', async context => {
  const fleet = await Fleet.start(context);
  const source = fleet.open();
  const chunks = randomChunks(new Random(15), 20);
  const offers = keep(source, chunks);
  await Promise.all(chunks.map(({ id }) => source.drop(id)));
  await offers;
  assert.equal(await read(source, chunks), 0);
});

test('a fleet that is not there is a miss', async context => {
  const fleet = await Fleet.start(context, 1);
  await fleet.servers[0]!.kill();
  const { host, port } = fleet.servers[0]!;
  const nodes = Array.from({ length: 5 }, (_, i) => serverOf(`n${i}`, host, port));
  const source = fleet.open({ nodes });
  const chunks = randomChunks(new Random(16), 40);
  assert.equal(await read(source, chunks), 0);
  await settled(source);
  assert.equal(source.stats().misses, 40);
  for (const node of source.stats().nodes) assert.notEqual(node.breaker, 'closed');
  for (const { id } of chunks) await source.drop(id);
});
