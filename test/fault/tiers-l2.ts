/** Faults of one node of the shared cache, of two, of all five: what a reader meets, and what is seen. */

import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { parseChunkId } from '../../src/base/digest.ts';
import {
  checksumAt,
  chunkSizeAt,
  headerSizeBytes,
  leaseKey,
} from '../../src/cache/fleet/format.ts';
import type { MemcachedServer, MemcachedServerOptions } from '../support/memcached.ts';
import { flush, itemsOf, setItems } from '../support/memcached-contents.ts';
import type { TcpFault } from '../support/proxies.ts';
import { type FleetNode, grown, type TierService, TierWorker } from './tiers-world.ts';

type Tier = 'l2' | 'store';
type Scope = 'one' | 'two' | 'all';

const scopes: Readonly<Record<Scope, number>> = { one: 1, two: 2, all: 5 };

/** A way in which nodes are slow, dead, …; it begins when all is well. */
interface Phase {
  begin(nodes: readonly FleetNode[], all: readonly FleetNode[]): Promise<unknown>;
  end(nodes: readonly FleetNode[]): Promise<unknown>;
  /** The tier that most chunks come from meanwhile; left out, it may be either. */
  from?: Readonly<Record<Scope, Tier>> | undefined;
  /** One of these is counted of each node with the fault, which shows that it was met. */
  seen?: readonly ('failed' | 'absent' | 'stored' | 'refused' | 'wrong')[];
  /** Whether it is in what L2 holds, so that L2 must hold all before. */
  isStored?: true;
  /** Whether it shows in waits for other workers that bring nothing. */
  inVain?: true;
}

/** 4+1: without one node the others have four shards of each chunk, without two they have three. */
const withoutThem = { one: 'l2', two: 'store', all: 'store' } as const;

const faults: Readonly<Record<string, Readonly<Record<string, () => Phase>>>> = {
  slow: {
    'by 200 ms': () => ({ ...proxied({ do: 'delay', waitMs: 200 }), seen: ['failed'] }),
    'by 40 ms, just within the bound': () => ({
      ...proxied({ do: 'delay', waitMs: 40 }),
      from: undefined,
    }),
  },
  dead: {
    killed: () => ({
      begin: nodes => each(nodes, ({ server }) => server.kill()),
      end: nodes => each(nodes, ({ server }) => server.restart()),
      from: withoutThem,
      seen: ['failed'],
    }),
    stopped: () => ({
      begin: nodes => each(nodes, ({ server }) => server.pause()),
      end: nodes => each(nodes, async ({ server }) => server.resume()),
      from: withoutThem,
      seen: ['failed'],
    }),
  },
  resetting: {
    'every connection': () => ({ ...proxied({ do: 'reset' }), seen: ['failed'] }),
    'now and then': () => ({
      ...repeated(async ({ proxy }) => {
        await proxy.setFault({ do: 'reset' });
        await proxy.setFault(undefined);
        await sleep(25);
      }),
      seen: ['failed'],
    }),
  },
  lying: {
    // Of its framing too: then it is no answer at all.
    'flipped bits': () => ({ ...proxied({ do: 'flip' }), seen: ['wrong', 'failed'] }),
    garbage: () => ({ ...proxied({ do: 'garbage' }), seen: ['failed'] }),
    "other chunks' shards": () => ({
      begin: nodes => each(nodes, ({ server }) => shiftShards(server)),
      end: async () => {},
      isStored: true,
      from: withoutThem,
      seen: ['wrong'],
    }),
    // Which of two that lie is not known.
    'forged shards': () => ({
      begin: nodes => each(nodes, ({ server }) => forgeShards(server)),
      end: async () => {},
      isStored: true,
      from: withoutThem,
    }),
    'leases that nobody has': () => ({
      begin: (nodes, all) => loseToLeases(nodes, all),
      end: nodes => each(nodes, ({ server }) => flush(server)),
      from: { one: 'store', two: 'store', all: 'store' },
      inVain: true,
    }),
  },
  full: {
    'so that it evicts': () => ({ ...shrunken({ memoryMiB: 2 }), seen: ['absent', 'stored'] }),
    'so that it refuses': () => ({
      ...shrunken({ memoryMiB: 2, flags: ['-M'] }),
      seen: ['refused'],
    }),
  },
  restarting: {
    'empty each time': () => ({
      ...repeated(async ({ server }) => {
        await server.restart();
        await sleep(300);
      }),
      from: withoutThem,
    }),
  },
};

const shape = { dataShards: 4, parityShards: 1 };
const filesAPhase = 16;
const filesALook = 8;
/** Of a breaker, in the metrics. */
const closed = 0;
const leaseLifetimeMs = 2000;
/** Where reads are right, but it does not show yet: other nodes were slow too, for the machine is. */
const shownWithinMs = 30_000;
const recoveredWithinMs = 90_000;

/** One after the other: nodes have 50 ms to answer, and this machine few processors. */
export function testL2(service: () => TierService): void {
  suite('L2, the shared cache', { concurrency: 1 }, () => {
    for (const scope of ['one', 'two', 'all'] as const) {
      test(`${scope} of five nodes`, async context => {
        const worker = await TierWorker.start(context, service(), { shape: '4+1', disk: 'full' });
        await recovered(worker);
        for (const [fault, phases] of Object.entries(faults)) {
          await context.test(fault, async cell => {
            for (const [what, phase] of Object.entries(phases)) {
              cell.diagnostic(`${what}: ${await runPhase(worker, scope, phase())}`);
            }
            await recovered(worker);
          });
        }
      });
    }
  });
}

async function runPhase(worker: TierWorker, scope: Scope, phase: Phase): Promise<string> {
  const nodes = worker.nodes.slice(0, scopes[scope]);
  if (phase.isStored) await recovered(worker);
  await phase.begin(nodes, worker.nodes);
  const { l2, store, longestMs } = await underFault(worker, nodes, phase, scope).finally(() =>
    phase.end(nodes),
  );
  const askedMs = await asked(worker, nodes);
  const waits = `${longestMs.toFixed()} ms at most, asked again after ${askedMs.toFixed()} ms`;
  return `${l2} from L2, ${store} from L3, ${waits}`;
}

/** Reads until it shows that the nodes have the fault, and which tier stands in for them. */
async function underFault(
  worker: TierWorker,
  nodes: readonly FleetNode[],
  { from, seen = [], inVain }: Phase,
  scope: Scope,
) {
  const seenOf = () =>
    each(nodes, async node => {
      const counts = await Promise.all(seen.map(what => worker.ofNode(node, `${what}_total`)));
      return counts.reduce((sum, count) => sum + count, 0);
    });
  const waits = () => worker.count('imgstore_fleet_leases_in_vain_total');
  const [seenBefore, waitsBefore] = [await seenOf(), await waits()];
  const isMet = async () =>
    (seen.length === 0 || (await seenOf()).every((count, i) => count > seenBefore[i]!)) &&
    (inVain === undefined || (await waits()) > waitsBefore);
  const beganMs = performance.now();
  let isFrom = from === undefined;
  for (;;) {
    const before = await worker.hits();
    const { longestMs } = await worker.load(filesAPhase);
    const after = await worker.hits();
    const [l2, store] = [grown(before, after, 'l2'), grown(before, after, 'store')];
    assert.ok(l2 + store >= filesAPhase, `${l2} + ${store}: no chunk was in memory`);
    isFrom ||= from?.[scope] === (l2 > store ? 'l2' : 'store');
    if (isFrom && (await isMet())) return { l2, store, longestMs };
    const isLate = performance.now() - beganMs > shownWithinMs;
    assert.ok(!isLate, `${l2} from L2, ${store} from L3\n${worker.log()}`);
    await sleep(200);
  }
}

/** Reads until each of the nodes is asked again, and answers. */
async function asked(worker: TierWorker, nodes: readonly FleetNode[]): Promise<number> {
  const beganMs = performance.now();
  for (;;) {
    const before = await each(nodes, node => worker.ofNode(node, 'asked_total'));
    await worker.load(filesALook);
    const after = await each(nodes, node => worker.ofNode(node, 'asked_total'));
    const breakers = await each(nodes, node => worker.ofNode(node, 'breaker'));
    const isAsked = after.every((count, i) => count > before[i]!);
    if (isAsked && breakers.every(state => state === closed)) return performance.now() - beganMs;
    assert.ok(performance.now() - beganMs < recoveredWithinMs, `asked again\n${worker.log()}`);
    await sleep(200);
  }
}

/** Reads until nearly all comes from L2. */
async function recovered(worker: TierWorker): Promise<void> {
  const beganMs = performance.now();
  for (;;) {
    const before = await worker.hits();
    await worker.load(filesALook);
    const after = await worker.hits();
    if (grown(before, after, 'store') <= 0.1 * grown(before, after, 'l2')) return;
    assert.ok(performance.now() - beganMs < recoveredWithinMs, `well again\n${worker.log()}`);
    await worker.load(worker.service.files.length - filesALook);
    await sleep(200);
  }
}

function each<V>(nodes: readonly FleetNode[], work: (node: FleetNode) => Promise<V>) {
  return Promise.all(nodes.map(work));
}

/** Each shard's value goes to another chunk's key. */
async function shiftShards(server: MemcachedServer): Promise<void> {
  const items = await itemsOf(server, 'imgstore/shard/');
  const shifted = items.map(({ key }, i) => ({ key, value: items[(i + 1) % items.length]!.value }));
  await setItems(server, shifted);
}

/** The checksums are right, the shards are not. */
async function forgeShards(server: MemcachedServer): Promise<void> {
  const items = await itemsOf(server, 'imgstore/shard/');
  for (const { value } of items) {
    value[value.length - 1]! ^= 1;
    const payload = value.subarray(headerSizeBytes);
    value.writeUInt32LE(crc32(payload, crc32(value.subarray(0, checksumAt))), checksumAt);
  }
  await setItems(server, items);
}

/** No node has a shard; for each chunk these say that somebody is about to fetch it. */
async function loseToLeases(nodes: readonly FleetNode[], all: readonly FleetNode[]): Promise<void> {
  const shards = await itemsOf(all[0]!.server, 'imgstore/shard/');
  const leases = shards.map(({ key, value }) => {
    const id = parseChunkId(key.split('/').at(-1)!);
    return { key: leaseKey(id, value.readUInt32LE(chunkSizeAt), shape), value: Buffer.alloc(0) };
  });
  // What the worker takes for its own leases is over.
  await sleep(leaseLifetimeMs);
  await each(all, ({ server }) => flush(server));
  await each(nodes, ({ server }) => setItems(server, leases));
}

function proxied(fault: TcpFault): Phase {
  return {
    begin: nodes => each(nodes, ({ proxy }) => proxy.setFault(fault)),
    end: nodes => each(nodes, ({ proxy }) => proxy.setFault(undefined)),
    from: withoutThem,
  };
}

function shrunken(options: MemcachedServerOptions): Phase {
  return {
    begin: nodes => each(nodes, ({ server }) => server.restart(options)),
    end: nodes => each(nodes, ({ server }) => server.restart({})),
    from: withoutThem,
  };
}

/** Happens to each node again and again, until the fault ends. */
function repeated(happen: (node: FleetNode) => Promise<unknown>): Phase {
  let isOver = false;
  let loops: Promise<unknown> | undefined;
  return {
    async begin(nodes) {
      loops = each(nodes, async node => {
        while (!isOver) await happen(node);
      });
      loops.catch(() => {});
    },
    async end() {
      isOver = true;
      await loops;
    },
  };
}
