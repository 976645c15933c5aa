/**
 * The store is gone while the shared cache is warm: a worker that has nothing itself goes on reading what
 * the shared cache has. What it has not cannot be read; how long until it can, once the store is back?
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { type Context, type Row, row, type Sample } from '../harness.ts';
import type { BenchHome } from '../home.ts';
import { ownPath, readPaths } from './images.ts';
import type { Machines } from './machines.ts';
import { readFiles, type Workers } from './workers.ts';

/** Long enough for the store's own retries to be used up. */
const outageMs = 20_000;
const outageSmallMs = 1000;
/** Between two tries of a program that reads again and again. */
const againMs = 50;
const untilBackMaxMs = 60_000;

interface Outage {
  hitShare: number;
  readMs: number;
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
  const of = (value: (outage: Outage) => number): Sample[] =>
    outages.map(outage => ({ value: value(outage) }));
  return [
    row(
      'store gone: chunks from L2',
      '%',
      of(outage => outage.hitShare),
      {
        target: { atLeast: 100 },
      },
    ),
    row(
      '  a start reads its files in',
      'ms',
      of(outage => outage.readMs),
    ),
    row(
      'store back: first good read of what L2 has not',
      'ms',
      of(outage => outage.backMs),
    ),
  ];
}

async function measureOutage(
  workers: Workers,
  { link }: Machines,
  lastsMs: number,
): Promise<Outage> {
  const [first, second] = workers.homes as [BenchHome, BenchHome];
  const [warm, cold] = [workers.images[0]!, workers.images.at(-1)!];
  await workers.makeCold();
  const elsewhere = first.makeFolder('elsewhere');
  await first.mount(warm.name, elsewhere);
  await readFiles(elsewhere, readPaths);
  await first.unmount(elsewhere);
  const [dir, coldDir] = [second.makeFolder('warm'), second.makeFolder('cold')];
  await second.mount(warm.name, dir);
  await second.mount(cold.name, coldDir);
  await sleep(500); // what the daemons do in the background, until the shared cache has everything
  const before = await second.mounted(dir);
  await link.setFault({ do: 'refuse' });
  let backMs: number;
  let readMs: number;
  let hitShare: number;
  try {
    const beganMs = performance.now();
    await readFiles(dir, readPaths);
    readMs = performance.now() - beganMs;
    hitShare = shareOfL2(before.hits, (await second.mounted(dir)).hits);
    const firstGood = untilGood(coldDir);
    await sleep(lastsMs);
    await link.setFault(undefined);
    const backAtMs = performance.now();
    backMs = (await firstGood) - backAtMs;
  } finally {
    await link.setFault(undefined);
  }
  await second.unmount(dir);
  await second.unmount(coldDir);
  return { hitShare, readMs, backMs };
}

/** Of what was fetched from anywhere since, in per cent. */
function shareOfL2(before: Record<string, number>, after: Record<string, number>): number {
  const since = (tier: string) => (after[tier] ?? 0) - (before[tier] ?? 0);
  const fetched = ['l2', 'store', 'failed'].reduce((sum, tier) => sum + since(tier), 0);
  return (100 * since('l2')) / fetched;
}

/** When a program that reads until it can has read. */
async function untilGood(dir: string): Promise<number> {
  const deadlineMs = performance.now() + untilBackMaxMs;
  for (;;) {
    const isGood = await readFiles(dir, [ownPath]).then(
      () => true,
      () => false,
    );
    if (isGood) return performance.now();
    if (performance.now() > deadlineMs)
      throw new Error('nothing can be read though the store is back');
    await sleep(againMs);
  }
}
