/** Faults of one node of the shared cache, of two, of all five: what a reader meets, and what is seen. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MemcachedServerOptions } from '../support/memcached.ts';
import { swapValues } from '../support/memcached-contents.ts';
import type { TcpFault } from '../support/proxies.ts';
import { type FleetNode, grown, type TierService, TierWorker } from './tiers-world.ts';

type Tier = 'l2' | 'store';
type Scope = 'one' | 'two' | 'all';

const scopes: Readonly<Record<Scope, number>> = { one: 1, two: 2, all: 5 };

/** A way in which nodes are slow, dead, …; it begins when all is well. */
interface Phase {
  begin(nodes: readonly FleetNode[]): Promise<unknown>;
  end(nodes: readonly FleetNode[]): Promise<unknown>;
  /** The tier that most chunks come from meanwhile; left out, it may be either. */
  from?: Readonly<Record<Scope, Tier>> | undefined;
  /** What is counted of each node with the fault, which shows that it was met. */
  seen?: 'failed' | 'absent';
}

/** 4+1: without one node the others have four shards of each chunk, without two they have three. */
const withoutThem = { one: 'l2', two: 'store', all: 'store' } as const;

const faults: Readonly<Record<string, Readonly<Record<string, () => Phase>>>> = {
  slow: {
    'by 200 ms': () => ({ ...proxied({ do: 'delay', waitMs: 200 }), seen: 'failed' }),
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
      seen: 'failed',
    }),
    stopped: () => ({
      begin: nodes => each(nodes, ({ server }) => server.pause()),
      end: nodes => each(nodes, async ({ server }) => server.resume()),
      from: withoutThem,
      seen: 'failed',
    }),
  },
  resetting: {
    'every connection': () => ({ ...proxied({ do: 'reset' }), seen: 'failed' }),
    'now and then': () => ({
      ...repeated(async ({ proxy }) => {
        await proxy.setFault({ do: 'reset' });
        await proxy.setFault(undefined);
        await sleep(25);
      }),
      seen: 'failed',
    }),
  },
  lying: {
    'flipped bits': () => proxied({ do: 'flip' }),
    garbage: () => ({ ...proxied({ do: 'garbage' }), seen: 'failed' }),
    "other chunks' shards": () => ({
      begin: nodes => each(nodes, ({ server }) => swapValues(server, 'imgstore/shard/')),
      end: async () => {},
      from: withoutThem,
    }),
  },
  full: {
    'so that it evicts': () => shrunken({ memoryMiB: 2 }),
    'so that it refuses': () => shrunken({ flags: ['-I', '16k', '-o', 'slab_chunk_max=16'] }),
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

const filesAPhase = 30;
const filesALook = 10;
/** Where reads are right, but neither shows yet: other nodes were slow, for this machine is. */
const triesMax = 5;
const recoveredWithinMs = 60_000;

export function testL2(service: () => TierService): void {
  for (const scope of ['one', 'two', 'all'] as const) {
    test(`L2, ${scope} of five nodes`, async context => {
      const worker = await TierWorker.start(context, service(), { shape: '4+1' });
      await recovered(worker, worker.nodes);
      for (const [fault, phases] of Object.entries(faults)) {
        await context.test(fault, async cell => {
          for (const [what, phase] of Object.entries(phases)) {
            const met = await runPhase(worker, scope, phase());
            cell.diagnostic(`${what}: ${met}`);
          }
        });
      }
    });
  }
}

async function runPhase(worker: TierWorker, scope: Scope, phase: Phase): Promise<string> {
  const nodes = worker.nodes.slice(0, scopes[scope]);
  await phase.begin(nodes);
  const { l2, store, longestMs } = await underFault(worker, nodes, phase, scope).finally(() =>
    phase.end(nodes),
  );
  const recoveryMs = await recovered(worker, nodes);
  const waits = `${longestMs.toFixed()} ms at most, well again after ${recoveryMs.toFixed()} ms`;
  return `${l2} from L2, ${store} from L3, ${waits}`;
}

/** Reads until it shows that the nodes have the fault, and which tier stands in for them. */
async function underFault(
  worker: TierWorker,
  nodes: readonly FleetNode[],
  { from, seen }: Phase,
  scope: Scope,
) {
  const seenOf = () =>
    Promise.all(nodes.map(node => (seen === undefined ? 0 : worker.nodeCount(node, seen))));
  const seenBefore = await seenOf();
  const isMet = async () =>
    seen === undefined || (await seenOf()).every((count, i) => count > seenBefore[i]!);
  for (let tries = 1; ; tries++) {
    const before = await worker.hits();
    const { longestMs } = await worker.load(filesAPhase);
    const after = await worker.hits();
    const [l2, store] = [grown(before, after, 'l2'), grown(before, after, 'store')];
    assert.ok(l2 + store >= filesAPhase, `${l2} + ${store}: no chunk was in memory`);
    const isFrom = from === undefined || from[scope] === (l2 > store ? 'l2' : 'store');
    if (isFrom && (await isMet())) return { l2, store, longestMs };
    assert.ok(tries < triesMax, `${l2} from L2, ${store} from L3\n${worker.log()}`);
  }
}

/** Reads until nearly all comes from L2 and each of the nodes gives shards again. */
async function recovered(worker: TierWorker, nodes: readonly FleetNode[]): Promise<number> {
  const beganMs = performance.now();
  const given = (counter: string) =>
    Promise.all(nodes.map(node => worker.nodeCount(node, counter)));
  for (;;) {
    assert.ok(performance.now() - beganMs < recoveredWithinMs, `well again\n${worker.log()}`);
    const [hits, answered, absent] = [
      await worker.hits(),
      await given('answered'),
      await given('absent'),
    ];
    await worker.load(filesALook);
    const [hitsNow, answeredNow, absentNow] = [
      await worker.hits(),
      await given('answered'),
      await given('absent'),
    ];
    const missed = grown(hits, hitsNow, 'store');
    const isGiving = answeredNow.every((count, i) => count > answered[i]!);
    if (isGiving && missed <= 0.1 * grown(hits, hitsNow, 'l2')) return performance.now() - beganMs;
    const isAsked = absentNow.every(
      (count, i) => count + answeredNow[i]! > absent[i]! + answered[i]!,
    );
    if (isAsked) await worker.load(worker.service.files.length);
    else await sleep(200);
  }
}

function each(nodes: readonly FleetNode[], work: (node: FleetNode) => Promise<unknown>) {
  return Promise.all(nodes.map(work));
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
    seen: 'absent',
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
    },
    async end() {
      isOver = true;
      await loops;
    },
  };
}
