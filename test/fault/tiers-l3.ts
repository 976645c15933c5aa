/**
 * Faults of the store: what a reader meets of chunks that L1 has, and of those that only the store has.
 * There the fault shows: the read is served, late perhaps, or it is EIO after a bounded wait.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { HttpFaults, RemoteStoreProxy, TcpFault } from '../support/proxies.ts';
import { grown, type TierService, TierWorker } from './tiers-world.ts';

interface Phase {
  begin(store: RemoteStoreProxy): Promise<unknown>;
  end(store: RemoteStoreProxy): Promise<unknown>;
  /** What becomes of reads of what only the store has. */
  gives: 'served' | 'EIO';
}

/** For each of these faults a worker: where they only wait, they wait at the same time. */
const faults: readonly Readonly<Record<string, Readonly<Record<string, () => Phase>>>>[] = [
  {
    slow: {
      'by 2 s to the first byte': () => requests([{ do: 'delay', waitMs: 2000 }], 'served'),
    },
    lying: {
      'flipped bytes': () => requests([{ do: 'flip', of: 'answer' }], 'EIO'),
      'truncated objects': () => requests([{ do: 'cut', afterBytes: 1000, says: 'all' }], 'EIO'),
      'other objects': () => requests([{ do: 'another' }], 'EIO'),
      'flipped bytes now and then': () => requests([{ do: 'flip', of: 'answer' }, null], 'served'),
    },
    restarting: { 'every second': comingAndGoing },
  },
  {
    dead: {
      'connections refused': () => connections({ do: 'refuse' }, 'EIO'),
      'no answer': () => connections({ do: 'stall' }, 'EIO'),
    },
  },
  {
    resetting: {
      'in every body': () => requests([{ do: 'cut', afterBytes: 1000, says: 'more' }], 'EIO'),
      'in every other body': () =>
        requests([{ do: 'cut', afterBytes: 1000, says: 'more' }, null], 'served'),
    },
    full: {
      'SlowDown for every request': () => requests([slowDown], 'EIO'),
      'SlowDown now and then': () => requests([slowDown, null], 'served'),
    },
  },
];

const slowDown = {
  do: 'answer',
  status: 503,
  headers: { 'retry-after': '1' },
  body: '<Error><Code>SlowDown</Code></Error>',
} as const;

/**
 * The store is tried again for 15 s, the last attempt may take 8 s, and the kernel asks twice, the
 * second time of a store that is known not to answer.
 */
const failsWithinMs = 45_000;
/** A store that is known not to answer is waited for a second; the kernel asks twice. */
const failsAgainWithinMs = 10_000;
const servedAgainWithinMs = 20_000;
const filesAPhase = 16;
const filesALook = 8;

export function testL3(service: () => TierService): void {
  for (const group of faults) {
    test(`L3, the store: ${Object.keys(group).join(', ')}`, async context => {
      const worker = await TierWorker.start(context, service(), { shape: '2+1', disk: 'well' });
      const unread = service().unread.values();
      await inL1(worker);
      for (const [fault, phases] of Object.entries(group)) {
        await context.test(fault, async cell => {
          for (const [what, phase] of Object.entries(phases)) {
            cell.diagnostic(`${what}: ${await runPhase(worker, phase(), unread)}`);
          }
        });
      }
    });
  }
}

async function runPhase(
  worker: TierWorker,
  phase: Phase,
  unread: Iterator<string>,
): Promise<string> {
  const files = [unread.next().value!, unread.next().value!];
  const before = await worker.hits();
  const underFault = async () => {
    await phase.begin(worker.store);
    const said = first(worker, files, phase.gives);
    return Promise.all([heldUntil(worker, said), said]);
  };
  const [heldMs, said] = await underFault().finally(() => phase.end(worker.store));
  const served = await untilServed(worker, files);
  const after = await worker.hits();
  const [l1, store] = [grown(before, after, 'l1'), grown(before, after, 'store')];
  assert.ok(l1 >= filesAPhase, `L1 ${l1}: what it holds comes from there`);
  assert.ok(store >= files.length, `L3 ${store}: the rest comes from there`);
  return `${said}, of L1 within ${heldMs.toFixed()} ms; all served ${served.toFixed()} ms after its end`;
}

/** What L1 holds is served from there all the time. */
async function heldUntil(worker: TierWorker, end: Promise<unknown>): Promise<number> {
  let isOver = false;
  const over = () => {
    isOver = true;
  };
  end.then(over, over);
  let { longestMs } = await worker.load(filesAPhase);
  while (!isOver) {
    await sleep(1000);
    longestMs = Math.max(longestMs, (await worker.load(filesALook)).longestMs);
  }
  return longestMs;
}

/** What only the store has. */
async function first(
  worker: TierWorker,
  files: readonly string[],
  gives: Phase['gives'],
): Promise<string> {
  const waits: string[] = [];
  const deadlines = gives === 'EIO' ? [failsWithinMs, failsAgainWithinMs] : [servedAgainWithinMs];
  for (const file of files) {
    const deadlineMs = deadlines.length > 1 ? deadlines.shift()! : deadlines[0]!;
    const met = await worker.read([file], deadlineMs);
    const gave = met.right === 1 ? 'served' : [...met.failed.keys()].join();
    assert.equal(gave, gives, worker.log());
    waits.push(`${met.longestMs.toFixed()} ms`);
  }
  return `${gives} after ${waits.join(' and ')}`;
}

async function untilServed(worker: TierWorker, files: readonly string[]): Promise<number> {
  const beganMs = performance.now();
  for (;;) {
    const { right } = await worker.read(files, servedAgainWithinMs);
    const waitMs = performance.now() - beganMs;
    if (right === files.length) return waitMs;
    assert.ok(waitMs < servedAgainWithinMs, `served again\n${worker.log()}`);
    await sleep(100);
  }
}

/** Reads until L1 gives all. */
async function inL1(worker: TierWorker): Promise<void> {
  for (let tries = 1; ; tries++) {
    const before = await worker.hits();
    await worker.load(worker.service.files.length);
    const after = await worker.hits();
    if (grown(before, after, 'store') + grown(before, after, 'l2') === 0) return;
    assert.ok(tries < 10, `L1 has them all\n${worker.log()}`);
  }
}

function connections(fault: TcpFault, gives: Phase['gives']): Phase {
  return {
    begin: store => store.setFault(fault),
    end: store => store.setFault(undefined),
    gives,
  };
}

function requests(httpFaults: HttpFaults, gives: Phase['gives']): Phase {
  return {
    begin: store => store.setHttpFaults(httpFaults),
    end: store => store.setHttpFaults([]),
    gives,
  };
}

function comingAndGoing(): Phase {
  let isOver = false;
  let loop = Promise.resolve();
  const run = async (store: RemoteStoreProxy) => {
    while (!isOver) {
      await store.setFault({ do: 'refuse' });
      await sleep(1000);
      await store.setFault(undefined);
      await sleep(1000);
    }
  };
  return {
    async begin(store) {
      loop = run(store);
    },
    async end() {
      isOver = true;
      await loop;
    },
    gives: 'served',
  };
}
