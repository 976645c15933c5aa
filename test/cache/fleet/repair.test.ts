/** Nodes that lack shards which they should have: how they get them again, and at which pace. */

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FleetSource } from '../../../src/cache/fleet/fleet-source.ts';
import { Random } from '../../support/random.ts';
import { assertSameBytes } from '../../support/same-bytes.ts';
import { type SealedChunk, sealedChunks } from '../../support/sealed-chunks.ts';
import { TcpProxy } from '../../support/tcp-proxy.ts';
import { Fleet, key, settled, timeoutMs } from './fleet.ts';

async function keep(source: FleetSource, chunks: readonly SealedChunk[]): Promise<void> {
  await Promise.all(chunks.map(({ id, sealed }) => source.put(id, sealed)));
}

/** By eight readers at once; the most repairs that were seen at once. */
async function readAll(source: FleetSource, chunks: readonly SealedChunk[]): Promise<number> {
  const queue = [...chunks];
  let repairsMax = 0;
  const reader = async () => {
    for (let chunk = queue.pop(); chunk !== undefined; chunk = queue.pop()) {
      const hit = await source.get(chunk.id, { sizeBytes: chunk.sealed.length });
      assertSameBytes(hit?.sealed, chunk.sealed);
      repairsMax = Math.max(repairsMax, source.stats().repairing);
    }
  };
  await Promise.all(Array.from({ length: 8 }, reader));
  await settled(source);
  return repairsMax;
}

/** The chunks of which a node has a shard. */
async function held(fleet: Fleet, at: number, chunks: readonly SealedChunk[]): Promise<number> {
  const client = fleet.client(at);
  const read = { sizeMaxBytes: 1_000_000, timeoutMs };
  const answers = await Promise.all(chunks.map(({ id }) => client.get(key(id), read)));
  return answers.filter(answer => Buffer.isBuffer(answer)).length;
}

test('a node that was restarted is filled by reads, two chunks at once', async context => {
  const fleet = await Fleet.start(context);
  const source = fleet.open();
  const chunks = sealedChunks(new Random(1), 60, 100_000);
  await keep(source, chunks);
  await fleet.servers[2]!.restart();
  assert.equal(await held(fleet, 2, chunks), 0);
  const pace: number[] = [];
  let rounds = 0;
  for (; rounds < 40 && pace.at(-1) !== 60; rounds++) {
    assert.ok((await readAll(source, chunks)) <= 2);
    pace.push(await held(fleet, 2, chunks));
  }
  context.diagnostic(`shards after each round of 60 reads: ${pace}`);
  assert.equal(pace.at(-1), 60);
  const { repairs, misses, degraded } = source.stats();
  assert.equal(misses, 0);
  assert.ok(repairs >= 60 && repairs <= degraded, `${repairs} repairs`);
  await readAll(source, chunks);
  assert.equal(source.stats().degraded, degraded, 'nothing is missing any more');
});

test('several workers fill it, and each shard is stored once', async context => {
  const fleet = await Fleet.start(context);
  const sources = Array.from({ length: 6 }, () => fleet.open());
  const chunks = sealedChunks(new Random(2), 60, 50_000);
  await keep(sources[0]!, chunks);
  await fleet.servers[2]!.restart();
  for (let round = 0; round < 6; round++) {
    await Promise.all(sources.map(source => readAll(source, chunks)));
  }
  assert.equal(await held(fleet, 2, chunks), 60);
  const repairs = sources.reduce((total, source) => total + source.stats().repairs, 0);
  context.diagnostic(`${repairs} repairs of 60`);
  assert.ok(repairs <= 66, `${repairs} repairs`);
});

async function repairsOf(source: FleetSource, chunks: readonly SealedChunk[]): Promise<number> {
  const before = source.stats().repairs;
  for (let round = 0; round < 3; round++) await readAll(source, chunks);
  return source.stats().repairs - before;
}

test('a node that refuses shards is not offered one after each read', async context => {
  let passedMs = 0;
  const fleet = await Fleet.start(context);
  const source = fleet.open({ nowMs: () => performance.now() + passedMs });
  const chunks = sealedChunks(new Random(3), 40, 400_000);
  await keep(source, chunks);
  // It does not make room, so most of them do not fit.
  await fleet.servers[1]!.restart({ memoryMiB: 2, flags: ['-M'] });
  await source.get(chunks[0]!.id, { sizeBytes: 400_000 });
  await settled(source);
  passedMs += 60_000;
  for (let round = 0; round < 3; round++) await repairsOf(source, chunks);
  const { refused, breaker } = source.stats().nodes[1]!;
  assert.equal(breaker, 'closed');
  assert.ok(refused >= 5 && refused <= 20, `${refused} refused`);
  await fleet.servers[1]!.restart({});
  let again = 0;
  for (let round = 0; round < 100 && again < 40; round++) {
    passedMs += 60_000;
    await readAll(source, chunks);
    again = await held(fleet, 1, chunks);
    // What failed to be stored is tried again after two seconds.
    if (again < 40) await sleep(50);
  }
  assert.equal(again, 40);
});

test('a node that answers EN to everything costs reads nothing', async (context: TestContext) => {
  const fleet = await Fleet.start(context);
  const proxy = await TcpProxy.start(context, fleet.servers[3]!);
  const nodes = fleet.nodes.map((node, at) => (at === 3 ? { ...node, port: proxy.port } : node));
  const source = fleet.open({ nodes, waitMaxMs: 300 });
  const chunks = sealedChunks(new Random(4), 40);
  await keep(source, chunks);
  proxy.fault = { do: 'garbage', bytes: () => Buffer.from('EN\r\n') };
  const repairs = await repairsOf(source, chunks);
  assert.ok(repairs <= 10, `${repairs} repairs for 120 reads`);
  assert.equal(source.stats().misses, 0);
});
