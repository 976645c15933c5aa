/**
 * Fifty starts of ten images at once, with nothing cached anywhere: on five workers, and on one. A start is
 * `imgstore mount`, and then a program that reads a few files, one after the other. The programs begin when all
 * is mounted: fifty commands take the processors of one machine longer than what is measured here.
 *
 * The floor is what the link alone costs if nothing is fetched twice: the bytes of the distinct objects
 * that were fetched, by its bandwidth, and its delay for each of the round trips, one after the other, of one
 * start alone. Processor time is not in it, though here one machine is all the workers, the
 * programs, the shared cache, the store and the link: the row of the busy processors says how much that was.
 */

import { cpus } from 'node:os';
import { type Context, machineBusyMs, type Row, row, type Sample } from '../harness.ts';
import type { BenchHome } from '../home.ts';
import { longestChain, type TakenRequest } from '../memory-s3.ts';
import { quantile } from '../numbers.ts';
import { farLink, type Machines } from './machines.ts';
import { runPrograms, type Workers } from './workers.ts';

/** Of one start alone, until it is mounted and of its program. */
interface RoundTrips {
  mount: number;
  program: number;
}

interface Case {
  what: string;
  starts: number;
  homes: readonly BenchHome[];
  bytesPerSecond: number;
}

interface Round {
  mountsMs: number[];
  programsMs: number[];
  mounting: readonly TakenRequest[];
  running: readonly TakenRequest[];
  /** Of the daemons, while programs ran. */
  cpuMs: number;
  /** Of all processors' time, then, in per cent. */
  busy: number;
}

/** The second link: slow enough for one machine's processors to follow. */
const slowBytesPerSecond = farLink.bytesPerSecond / 10;

export async function benchColdFleet(
  workers: Workers,
  machines: Machines,
  { small, report }: Context,
): Promise<Row[]> {
  const starts = small ? 10 : 50;
  const many = `${starts} starts on ${workers.homes.length} workers`;
  const everywhere = { starts, homes: workers.homes };
  const { bytesPerSecond } = farLink;
  const cases: Case[] = [
    { what: many, ...everywhere, bytesPerSecond },
    {
      what: `${many}, ${slowBytesPerSecond / 1e6} MB/s`,
      ...everywhere,
      bytesPerSecond: slowBytesPerSecond,
    },
    {
      what: `${starts} starts on one worker`,
      starts,
      homes: workers.homes.slice(0, 1),
      bytesPerSecond,
    },
  ];
  const trips = await roundTripsOfOne(workers, machines);
  const rounds = new Map<Case, Round[]>(cases.map(each => [each, []]));
  for (let round = 0; round < (small ? 1 : 3); round++) {
    for (const each of small ? [cases[0]!] : cases) {
      report(`workload: ${each.what}, round ${round + 1}`);
      rounds.get(each)!.push(await startCold(workers, machines, each));
    }
  }
  await machines.link.setLink(farLink);
  return [
    row('round trips of one mount alone', 'count', [{ value: trips.mount }]),
    row('round trips of its program', 'count', [{ value: trips.program }]),
    ...[...rounds].flatMap(([each, of]) => (of.length === 0 ? [] : rowsOf(each, of, trips))),
  ];
}

async function roundTripsOfOne(workers: Workers, { origin, link }: Machines): Promise<RoundTrips> {
  await workers.makeCold();
  // By the service instead, which then sees which requests it has at the same time.
  await link.setLink({ ...farLink, delayMs: 0 });
  await origin.setDelay(farLink.delayMs);
  const mounts = await workers.mount(1, workers.homes.slice(0, 1));
  const mount = longestChain(await origin.take());
  await runPrograms(mounts);
  await origin.setDelay(0);
  return { mount, program: longestChain(await origin.take()) };
}

async function startCold(
  workers: Workers,
  { origin, link }: Machines,
  { starts, homes, bytesPerSecond }: Case,
): Promise<Round> {
  await workers.makeCold();
  await link.setLink({ ...farLink, bytesPerSecond });
  const mounts = await workers.mount(starts, homes);
  const mounting = await origin.take();
  const cpuBefore = await workers.cpuMs(homes);
  const [busyBeforeMs, beganMs] = [machineBusyMs(), performance.now()];
  const programsMs = await runPrograms(mounts);
  const elapsedMs = performance.now() - beganMs;
  const busy = (100 * (machineBusyMs() - busyBeforeMs)) / elapsedMs / cpus().length;
  return {
    mountsMs: mounts.map(({ tookMs }) => tookMs),
    programsMs,
    mounting,
    running: await origin.take(),
    cpuMs: (await workers.cpuMs(homes)) - cpuBefore,
    busy,
  };
}

function rowsOf(
  { what, bytesPerSecond }: Case,
  rounds: readonly Round[],
  trips: RoundTrips,
): Row[] {
  const of = (value: (round: Round) => number): Sample[] =>
    rounds.map(round => ({ value: value(round) }));
  const all = ({ mounting, running }: Round) => [...mounting, ...running];
  const floorMs = (requests: readonly TakenRequest[], roundTrips: number) =>
    (distinctBytes(requests) * 1000) / bytesPerSecond + roundTrips * farLink.delayMs;
  const startFloorMs = (round: Round) => floorMs(all(round), trips.mount + trips.program);
  const programFloorMs = ({ running }: Round) => floorMs(running, trips.program);
  const start99 = ({ mountsMs, programsMs }: Round) =>
    quantile(
      mountsMs.map((mountMs, at) => mountMs + programsMs[at]!),
      0.99,
    );
  const program99 = ({ programsMs }: Round) => quantile(programsMs, 0.99);
  const requests = (round: Round) => chunkGets(all(round)).length;
  const chunks = (round: Round) => new Set(chunkGets(all(round)).map(get => get.what)).size;
  const twice = { target: { atMost: 2 } };
  return [
    row(`${what}: p99`, 'ms', of(start99)),
    row(
      '  to its floor',
      '×',
      of(round => start99(round) / startFloorMs(round)),
      twice,
    ),
    row(
      '  of it mounted, p99',
      'ms',
      of(({ mountsMs }) => quantile(mountsMs, 0.99)),
    ),
    row(
      '  of it the program, p99',
      'ms',
      rounds.map(round => ({ value: program99(round), cpuMs: round.cpuMs })),
    ),
    row("  the program's floor", 'ms', of(programFloorMs)),
    row(
      '  to its floor',
      '×',
      of(round => program99(round) / programFloorMs(round)),
      twice,
    ),
    row(
      '  processors busy with programs',
      '%',
      of(({ busy }) => busy),
    ),
    row('  distinct chunks', 'count', of(chunks)),
    row(
      '  requests for them, to each',
      '×',
      of(round => requests(round) / chunks(round)),
      {
        target: { atMost: 1.05 },
      },
    ),
    row(
      '  all requests',
      'count',
      of(round => all(round).length),
    ),
  ];
}

function chunkGets(requests: readonly TakenRequest[]): TakenRequest[] {
  return requests.filter(({ method, what }) => method === 'GET' && what.includes('/chunks/'));
}

/** Of what was answered, each object once. */
function distinctBytes(requests: readonly TakenRequest[]): number {
  const sizes = new Map(requests.map(({ what, answerBytes }) => [what, answerBytes]));
  return [...sizes.values()].reduce((sum, sizeBytes) => sum + sizeBytes, 0);
}
