/**
 * What happens to a fleet at work, and what it costs the origin: requests in the minutes after,
 * against those of the minutes before. One fleet lives through all of it, each time steady again.
 */

import type { Simulation } from './simulation.ts';
import { sparkline, table, times } from './tables.ts';

export interface Scenario {
  readonly name: string;
  /** Also looked at with every worker fetching for itself what it misses. */
  readonly alsoWithoutLeases: boolean;
  /** Whether the shared cache has lost what only time brings back. */
  readonly emptiesFleet: boolean;
  happen(simulation: Simulation): void;
}

export interface Aftermath {
  readonly name: string;
  readonly leases: boolean;
  /** Requests to the origin by minute, to those of the steady fleet. */
  readonly factors: readonly number[];
  /** The same of the worst ten minutes of the steady fleet. */
  readonly usual: number;
  /** Requests in the worst second. */
  readonly worstSecond: number;
  /** Requests in all, beyond those of the steady fleet. */
  readonly more: number;
  /** Requests for a chunk that was asked for before, in the same time. */
  readonly repeated: number;
  /** Reads of the shared cache in the worst minute, to those of the steady fleet. */
  readonly fleetFactor: number;
}

/** The most popular image's first chunks are those of its base: see bench/traces/population.ts. */
const baseChunks = 6;
const releasedOfRanks = 10_000;
/** Of a row: a minute alone may be even by chance. */
const windowMinutes = 10;
const minutesShown = [1, 2, 5, 10, 20, 30];
const burstReads = 25;
const burstChunkBytes = 200_000;

export const scenarios: readonly Scenario[] = [
  {
    name: 'a node lost, back empty after 10 min',
    alsoWithoutLeases: false,
    emptiesFleet: false,
    happen(simulation) {
      const { fleet } = simulation;
      fleet.lose(0);
      simulation.plan(10, () => fleet.return(0));
    },
  },
  {
    name: 'half as many starts as workers, of a new image, in a second',
    alsoWithoutLeases: true,
    emptiesFleet: false,
    happen(simulation) {
      const { world, workers } = simulation;
      const reads = Array.from({ length: burstReads }, () => world.freshChunk(burstChunkBytes));
      const starts = workers.length / 2;
      for (let at = 0; at < starts; at++) {
        simulation.plan(at / starts / 60, () => simulation.start(Uint32Array.from(reads)));
      }
    },
  },
  {
    name: 'a popular base built anew',
    alsoWithoutLeases: true,
    emptiesFleet: false,
    happen({ world }) {
      world.replace(world.firstReadsOf(world.imageOfRank(0)).slice(0, baseChunks));
    },
  },
  {
    name: 'all workers replaced by empty ones',
    alsoWithoutLeases: false,
    emptiesFleet: false,
    happen({ workers }) {
      for (const worker of workers) worker.replace();
    },
  },
  {
    name: 'two nodes lost at once, back empty after 10 min',
    alsoWithoutLeases: false,
    emptiesFleet: true,
    happen(simulation) {
      const { fleet } = simulation;
      for (const node of [0, 1]) fleet.lose(node);
      simulation.plan(10, () => {
        for (const node of [0, 1]) fleet.return(node);
      });
    },
  },
  {
    name: 'every node restarted, one each 30 s',
    alsoWithoutLeases: false,
    emptiesFleet: true,
    happen(simulation) {
      const { fleet } = simulation;
      for (let node = 0; node < fleet.nodes; node++) {
        simulation.plan(node / 2, () => restart(fleet, node));
      }
    },
  },
  {
    name: 'the shared cache restarted, all at once',
    alsoWithoutLeases: true,
    emptiesFleet: true,
    happen({ fleet }) {
      for (let node = 0; node < fleet.nodes; node++) restart(fleet, node);
    },
  },
  {
    name: 'a tenth of the popular images released',
    alsoWithoutLeases: false,
    emptiesFleet: false,
    happen({ world }) {
      const ranks = Math.min(releasedOfRanks, world.images / 10);
      for (let rank = 0; rank < ranks; rank += 10) world.release(world.imageOfRank(rank));
    },
  },
];

export interface Circumstances {
  readonly leases: boolean;
  /** Minutes: see Scale. */
  readonly steady: number;
  readonly settle: number;
  readonly after: number;
}

export async function runScenario(
  simulation: Simulation,
  scenario: Scenario,
  { leases, steady, settle, after }: Circumstances,
): Promise<Aftermath> {
  const { meter, fleet } = simulation;
  simulation.leases = leases;
  await simulation.run(settle);
  const begin = simulation.minute;
  const before = meter.originRate(0, steady);
  const fleetBefore = meter.fleetRate(0, steady);
  meter.markChunks();
  scenario.happen(simulation);
  await simulation.run(after);
  const end = begin + after;
  const requests = meter.originRequests(begin, end);
  const chunks = meter.chunksAsked;
  if (scenario.emptiesFleet) fleet.refill();
  const factorsOf = (minute: number, length: number) =>
    Array.from({ length }, (_, at) => meter.originRate(minute + at, minute + at + 1) / before);
  const factors = factorsOf(begin, after);
  return {
    name: scenario.name,
    leases,
    factors,
    usual: Math.max(...windowSums(factorsOf(0, steady))) / windowMinutes,
    worstSecond: meter.originPeak(begin, end),
    more: requests - before * 60 * after,
    repeated: requests - chunks,
    fleetFactor: meter.fleetPeak(begin, end) / fleetBefore,
  };
}

function restart(fleet: Simulation['fleet'], node: number): void {
  fleet.lose(node);
  fleet.return(node);
}

/**
 * Minutes until ten in a row have at most 1.1 times what is usual, the worst ten minutes of the
 * steady fleet, as chance has it; -1: not before they are over.
 */
export function minutesToSteady({ factors, usual }: Pick<Aftermath, 'factors' | 'usual'>): number {
  return windowSums(factors).findIndex(sum => sum <= 1.1 * usual * windowMinutes);
}

function windowSums(factors: readonly number[]): number[] {
  return factors.slice(0, 1 - windowMinutes).map((_, minute) => {
    const window = factors.slice(minute, minute + windowMinutes);
    return window.reduce((total, factor) => total + factor, 0);
  });
}

export function describeAftermaths(aftermaths: readonly Aftermath[]): string[] {
  const minutes = minutesShown.filter(minute => minute <= aftermaths[0]!.factors.length);
  const header = [
    'Requests to the origin, × steady',
    'leases',
    'worst min',
    ...minutes.map(minute => `min ${minute}`),
    'usual after',
    'worst second',
    'more',
    'repeated',
    'L2 reads',
    'by minute',
  ];
  const lines = aftermaths.map(aftermath => {
    const { name, leases, factors, worstSecond, more, repeated, fleetFactor } = aftermath;
    const steadyAfter = minutesToSteady(aftermath);
    return [
      name,
      leases ? 'yes' : 'no',
      times(Math.max(...factors)),
      ...minutes.map(minute => times(factors[minute - 1]!)),
      steadyAfter === -1 ? 'not in it' : `${steadyAfter} min`,
      String(worstSecond),
      more.toFixed(0),
      String(repeated),
      `${times(fleetFactor)} ×`,
      sparkline(factors),
    ];
  });
  return table([header, ...lines]);
}
