/**
 * The store is gone while the shared cache is warm: a worker that has nothing itself goes on reading what
 * the shared cache has. What it has not cannot be read; how long until it can, once the store is back?
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { type Context, type Row, row, type Sample } from '../harness.ts';
import type { BenchHome } from '../home.ts';
import { ownPath, readPaths } from './images.ts';
import type { Machines } from './machines.ts';
import { cat, readFiles, type Workers } from './workers.ts';

/** Long enough for the store's own retries to be used up. */
const outageMs = 20_000;
const outageSmallMs = 1000;
/** Between two tries of a program that reads again and again. */
const againMs = 50;
const untilBackMaxMs = 60_000;
const sharedTriesMax = 20;

interface Outage {
  hitShare: number;
  /** Whether the program that reads what the shared cache has could read it. */
  isRead: boolean;
  readMs: number;
  /** How long those reads of what it has not took that failed. */
  failedMs: number[];
  backMs: number;
}

export async function benchOutage(
  workers: Workers,
  machines: Machines,
  { small, report }: Context,
): Promise<Row[]> {
  const outages: Outage[] = [];
  for (let round = 0; round < (small ? 1 : 3); round++) {
    report(`workload: the store is gone, round ${round + 1}`);
    outages.push(await measureOutage(workers, machines, small ? outageSmallMs : outageMs));
  }
  const samples = (values: number[]): Sample[] => values.map(value => ({ value }));
  const shares = samples(outages.map(({ hitShare }) => hitShare));
  const times = samples(outages.map(({ readMs }) => readMs));
  const unread = [{ value: outages.filter(({ isRead }) => !isRead).length }];
  const failed = samples(outages.flatMap(({ failedMs }) => failedMs));
  const back = samples(outages.map(({ backMs }) => backMs));
  return [
    row('store gone: chunks from L2', '%', shares, { target: { atLeast: 100 } }),
    row('  a program reads its files in', 'ms', times),
    row('  programs that could not', 'count', unread, { target: { atMost: 0 } }),
    ...(failed.length === 0 ? [] : [row('  reads of what L2 has not fail after', 'ms', failed)]),
    row('store back: first good read of it', 'ms', back),
  ];
}

async function measureOutage(
  workers: Workers,
  { link }: Machines,
  lastsMs: number,
): Promise<Outage> {
  const [first, second] = workers.homes as [BenchHome, BenchHome];
  const [warm, cold] = [workers.images[0]!, workers.images.at(-1)!];
  const [dir, coldDir] = [second.makeFolder('warm'), second.makeFolder('cold')];
  await workers.makeCold();
  await first.mount(warm.name, first.makeFolder('warm'));
  await readFiles(first.path('warm'), readPaths);
  await untilShared(second, warm.name, dir);
  await second.coldDaemon();
  await second.mount(warm.name, dir);
  await second.mount(cold.name, coldDir);
  const before = await second.mounted(dir);
  await link.setFault({ do: 'refuse' });
  try {
    const beganMs = performance.now();
    const isRead = (await cat(dir, readPaths)) === 0;
    const readMs = performance.now() - beganMs;
    const hitShare = shareOfL2(before.hits, (await second.mounted(dir)).hits);
    const reading = readUntilGood(coldDir);
    await sleep(lastsMs);
    await link.setFault(undefined);
    const backAtMs = performance.now();
    const { goodAtMs, failedMs } = await reading;
    return { hitShare, isRead, readMs, failedMs, backMs: goodAtMs - backAtMs };
  } finally {
    await link.setFault(undefined);
  }
}

/** Until the shared cache has all that a program reads. */
async function untilShared(home: BenchHome, image: string, dir: string): Promise<void> {
  for (let tries = 0; tries < sharedTriesMax; tries++) {
    await home.coldDaemon();
    await home.mount(image, dir);
    await readFiles(dir, readPaths);
    const { hits } = await home.mounted(dir);
    if (hits['store'] === undefined) return;
  }
  throw new Error('the shared cache does not get what a program reads');
}

/** Of what was fetched from anywhere since, in per cent. */
function shareOfL2(before: Record<string, number>, after: Record<string, number>): number {
  const since = (tier: string) => (after[tier] ?? 0) - (before[tier] ?? 0);
  const fetched = ['l2', 'store', 'failed'].reduce((sum, tier) => sum + since(tier), 0);
  return (100 * since('l2')) / fetched;
}

/** A program that reads until it can: when it could, and how long its failing reads took. */
async function readUntilGood(dir: string): Promise<{ goodAtMs: number; failedMs: number[] }> {
  const deadlineMs = performance.now() + untilBackMaxMs;
  const failedMs: number[] = [];
  for (;;) {
    const beganMs = performance.now();
    const status = await cat(dir, [ownPath]);
    const endedMs = performance.now();
    if (status === 0) return { goodAtMs: endedMs, failedMs };
    if (endedMs > deadlineMs) throw new Error('nothing can be read though the store is back');
    failedMs.push(endedMs - beganMs);
    await sleep(againMs);
  }
}
