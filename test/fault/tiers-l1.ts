/** Faults of the worker's own disk: what a reader meets, and what is seen. */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FolderFault } from '../support/faulty-folder.ts';
import { runChecked, runCommand } from '../support/processes.ts';
import { grown, servedWithinMs, type TierService, TierWorker } from './tiers-world.ts';

/** A way in which the disk is slow, dead, …; it begins when all is well. */
interface Phase {
  begin(worker: TierWorker): Promise<unknown>;
  end(worker: TierWorker): Promise<unknown>;
  /** Where chunks come from meanwhile: their share of L1 is above, or below, a half. */
  from?: 'l1' | 'store';
}

const faults: Readonly<Record<string, Readonly<Record<string, Phase>>>> = {
  slow: {
    'by 20 ms an operation': { ...mistreated({ do: 'slow', waitMs: 20 }), from: 'l1' },
    'by 300 ms an operation': mistreated({ do: 'slow', waitMs: 300 }),
  },
  dead: {
    'errors on everything': { ...mistreated({ do: 'fail', code: 'EIO' }), from: 'store' },
    'no answer': { ...mistreated({ do: 'hang' }), from: 'store' },
  },
  resetting: {
    'stale handles': { ...mistreated({ do: 'fail', code: 'ESTALE' }), from: 'store' },
    'entries vanish': { begin: vanish, end: vanish, from: 'store' },
    'its folder is removed': { begin: removeFolder, end: async () => {}, from: 'store' },
  },
  lying: {
    'flipped bits': { ...mistreated({ do: 'lie' }) },
    'rotten and torn files': { begin: rot, end: async () => {}, from: 'store' },
  },
  full: {
    'of something else': {
      begin: fill,
      end: async worker => rmSync(join(worker.disk!.source, 'ballast')),
    },
  },
  restarting: {
    'read-only for a while': {
      begin: worker => remount(worker, 'ro'),
      end: worker => remount(worker, 'rw'),
      from: 'l1',
    },
  },
};

const filesAPhase = 16;
const filesALook = 8;
/** A disk that failed a write is left alone for 10 s. */
const recoveredWithinMs = 60_000;

export function testL1(service: () => TierService): void {
  test("L1, the worker's disk", async context => {
    const worker = await TierWorker.start(context, service(), { disk: 'faulty' });
    await recovered(worker);
    for (const [fault, phases] of Object.entries(faults)) {
      await context.test(fault, async cell => {
        for (const [what, phase] of Object.entries(phases)) {
          cell.diagnostic(`${what}: ${await runPhase(worker, phase)}`);
        }
        if (fault === 'restarting') cell.diagnostic(`killed: ${await killed(worker)}`);
      });
    }
  });
}

async function runPhase(worker: TierWorker, phase: Phase): Promise<string> {
  const load = async () => {
    await phase.begin(worker);
    return counted(worker, filesAPhase);
  };
  const { l1, store, longestMs } = await load().finally(() => phase.end(worker));
  assert.ok(l1 + store >= filesAPhase, `${l1} + ${store}: no chunk was in memory`);
  const { from } = phase;
  if (from !== undefined) assert.equal(l1 > store ? 'l1' : 'store', from, `L1 ${l1}, L3 ${store}`);
  const recoveryMs = await recovered(worker);
  const waits = `${longestMs.toFixed()} ms at most, well again after ${recoveryMs.toFixed()} ms`;
  return `${l1} from L1, ${store} from L3, ${waits}`;
}

async function counted(worker: TierWorker, files: number) {
  const before = await worker.hits();
  const { longestMs } = await worker.load(files);
  const after = await worker.hits();
  return { l1: grown(before, after, 'l1'), store: grown(before, after, 'store'), longestMs };
}

/** Reads until all comes from L1. */
async function recovered(worker: TierWorker): Promise<number> {
  const beganMs = performance.now();
  for (;;) {
    const { l1, store } = await counted(worker, filesALook);
    if (l1 > 0 && store === 0) return performance.now() - beganMs;
    assert.ok(performance.now() - beganMs < recoveredWithinMs, `well again\n${worker.log()}`);
    await worker.load(worker.service.files.length);
    await sleep(2000);
  }
}

/** The daemon: reads fail at once, and when it is there again, so is its cache. */
async function killed(worker: TierWorker): Promise<string> {
  process.kill(await worker.pid(), 'SIGKILL');
  const met = await worker.read(worker.service.files.slice(0, filesALook), servedWithinMs);
  await worker.mount();
  const { l1, store } = await counted(worker, filesALook);
  assert.ok(l1 > 0 && store === 0, `L1 ${l1}, L3 ${store}`);
  const failures = [...met.failed].map(([code, count]) => `${count} ${code}`).join();
  return `${failures} within ${met.longestMs.toFixed()} ms, then ${l1} from L1`;
}

function mistreated(fault: FolderFault): Phase {
  return {
    begin: async ({ disk }) => {
      disk!.fault = fault;
    },
    end: async ({ disk }) => {
      disk!.fault = undefined;
    },
  };
}

async function vanish({ disk }: TierWorker): Promise<void> {
  const folder = join(disk!.source, 'v1');
  for (const name of readdirSync(folder)) {
    if (name !== 'tmp') rmSync(join(folder, name), { recursive: true, force: true, maxRetries: 5 });
  }
}

async function removeFolder({ disk }: TierWorker): Promise<void> {
  await runChecked('rm', ['-rf', join(disk!.source, 'v1')]);
}

/** Of every other file a bit is another, the rest are cut in half. */
async function rot({ disk }: TierWorker): Promise<void> {
  const folder = join(disk!.source, 'v1');
  const paths = readdirSync(folder)
    .filter(name => name !== 'tmp')
    .flatMap(name => readdirSync(join(folder, name)).map(file => join(folder, name, file)));
  for (const [i, path] of paths.entries()) {
    const bytes = readFileSync(path);
    bytes[bytes.length >> 1]! ^= 1;
    if (i % 2 === 0) writeFileSync(path, bytes);
    else truncateSync(path, bytes.length >> 1);
  }
}

/** Half of what was kept is gone, and there is no room for it. */
async function fill({ disk }: TierWorker): Promise<void> {
  const folder = join(disk!.source, 'v1');
  for (const name of readdirSync(folder).filter((_, i) => i % 2 === 0)) {
    if (name !== 'tmp') rmSync(join(folder, name), { recursive: true, force: true, maxRetries: 5 });
  }
  // Until it fails.
  await runCommand('dd', ['if=/dev/zero', `of=${join(disk!.source, 'ballast')}`, 'bs=64k']);
}

async function remount({ disk }: TierWorker, how: 'ro' | 'rw'): Promise<void> {
  await runChecked('mount', ['-o', `remount,${how}`, disk!.source]);
}
