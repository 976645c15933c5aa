/**
 * `npm run bench -- simulate`: a fleet of thousands of workers and a million images in virtual time,
 * on the placement, the cache index and the admission of src/. All of it follows from the seed: the
 * same text, to the byte, each time. docs/BENCHMARKS.md says what is published, what is measured
 * and what is assumed.
 */

import { GiB, MiB } from '../../src/base/limits.ts';
import { Random } from '../../test/support/random.ts';
import type { Row, Workload } from '../harness.ts';
import type { FleetOptions } from './fleet.ts';
import type { Shares } from './meter.ts';
import {
  affinity,
  fleetShare,
  fullScale,
  nodes,
  type Scale,
  shape,
  smallScale,
  uploadsPerStart,
  zipf,
} from './scale.ts';
import { type Aftermath, describeAftermaths, runScenario, scenarios } from './scenarios.ts';
import { Simulation } from './simulation.ts';
import { describeRefill, sizeFleet, sizeWorkers } from './sizing-tables.ts';
import { percent, rate, table } from './tables.ts';
import { Popularity, World } from './world.ts';

/** Brooker et al., ATC 2023. */
const published: Shares = { l1: 0.67, l2: 0.32, l3: 0.0006 };

export interface Simulated {
  shares: Shares;
  aftermaths: Aftermath[];
  lines: string[];
}

export const workload: Workload = {
  name: 'simulate',
  summary: 'a simulated fleet: shares of the tiers, and its origin when caches are lost',

  async run({ small, report }) {
    const { shares, aftermaths, lines } = await simulate(small ? smallScale : fullScale, report);
    return {
      rows: [
        figure('reads that L1 answers', '%', 100 * shares.l1),
        figure('reads that L2 answers', '%', 100 * shares.l2),
        figure('reads that go to the origin', '%', 100 * shares.l3),
        ...aftermaths.map(({ name, leases, factors }) => {
          return figure(leases ? name : `${name}, no leases`, '×', Math.max(...factors));
        }),
      ],
      commands: ['node bench/main.ts simulate'],
      notes: lines,
    };
  },
};

function figure(what: string, unit: Row['unit'], value: number): Row {
  return { what, unit, n: 1, p50: value, p90: value };
}

export async function simulate(scale: Scale, report: (step: string) => void): Promise<Simulated> {
  report('simulate: images');
  const world = new World(scale);
  const fleet = { nodes, shape, nodeBytes: nodeBytes(world) };
  const lines = describeScale(world, scale, fleet);
  report('simulate: sizes');
  lines.push('', ...sizeWorkers(world, scale), '', ...sizeFleet(world, scale));
  report('simulate: a steady fleet');
  const popularity = new Popularity(world, zipf);
  const latestFirst = world.latestFirst(popularity, new Random(scale.seed));
  const simulation = new Simulation(world, popularity, {
    ...scale,
    affinity,
    uploadsPerStart,
    leases: true,
    fleet,
  });
  simulation.warm(scale.workers * scale.warmStarts, latestFirst);
  await simulation.run(scale.steady);
  const { meter } = simulation;
  const shares = meter.shares(0, scale.steady);
  const steady = meter.originRate(0, scale.steady);
  lines.push(
    '',
    ...describeShares(shares, simulation),
    `${rate(steady)} requests to the origin a second.`,
  );
  const aftermaths: Aftermath[] = [];
  for (const scenario of scenarios) {
    for (const leases of scenario.alsoWithoutLeases ? [true, false] : [true]) {
      report(`simulate: ${scenario.name}${leases ? '' : ', no leases'}`);
      aftermaths.push(await runScenario(simulation, scenario, { leases, ...scale }));
    }
  }
  const end = simulation.minute;
  await simulation.run(scale.settle);
  lines.push('', ...describeAftermaths(aftermaths));
  lines.push(
    `At the end: ${rate(meter.originRate(end, simulation.minute))} requests a second. Of all, ` +
      `${meter.waitedForPlace} waited for one of the places that a worker has.`,
  );
  lines.push('', ...describeRefill(world, scale, steady));
  return { shares, aftermaths, lines };
}

function nodeBytes(world: World): number {
  const parity = (shape.dataShards + shape.parityShards) / shape.dataShards;
  return Math.ceil((world.bytes * parity * fleetShare) / nodes);
}

function describeScale(world: World, scale: Scale, fleet: FleetOptions): string[] {
  const { seed, images, workers, startsPerSecond, workerCacheBytes } = scale;
  const reads = world.reads / images;
  const nodeSize = `${(fleet.nodeBytes / GiB).toFixed(1)} GiB`;
  return [
    `Seed ${seed}. ${images} images, Zipf ${zipf}; ${world.chunks} chunks, ` +
      `${(world.bytes / GiB).toFixed(1)} GiB sealed; a start reads ${reads.toFixed(1)} chunks.`,
    `${workers} workers, ${startsPerSecond} starts a second, affinity ${affinity}, ` +
      `${uploadsPerStart} uploads a start; L1 of ${workerCacheBytes / MiB} MiB each; ` +
      `L2 of ${nodes} nodes of ${nodeSize}, ${shape.dataShards} + ${shape.parityShards}.`,
  ];
}

function describeShares(shares: Shares, { workers, fleet }: Simulation): string[] {
  const fill = workers.reduce((sum, { cacheFill }) => sum + cacheFill, 0) / workers.length;
  const ofTiers = ({ l1, l2, l3 }: Shares) => [l1, l2, l3].map(percent);
  return [
    '% of reads, steady',
    ...table([
      ['', 'L1', 'L2', 'L3'],
      ['here', ...ofTiers(shares)],
      ['AWS Lambda, published', ...ofTiers(published)],
    ]),
    `L1 is ${percent(fill)} % full, L2 holds ${(fleet.bytes / GiB).toFixed(1)} GiB.`,
  ];
}
