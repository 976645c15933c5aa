/** How the shares of the tiers follow from the sizes of the caches and from what is assumed. */

import { GiB, MiB } from '../../src/base/limits.ts';
import { Random } from '../../test/support/random.ts';
import type { Scale } from './scale.ts';
import { fleetShare, uploadsPerStart, zipf } from './scale.ts';
import { refillRates, storeShares, workerShares } from './sizing.ts';
import { percent, rate, table } from './tables.ts';
import { Popularity, type World } from './world.ts';

const workerSweep = [
  { zipf, affinity: 0 },
  { zipf, affinity: 0.5 },
  { zipf, affinity: 0.9 },
  { zipf: 0.8, affinity: 0 },
  { zipf: 1, affinity: 0 },
];
const fleetSweep = [
  { zipf: 0.8, uploads: [uploadsPerStart] },
  { zipf, uploads: [0, 0.005, uploadsPerStart, 0.05] },
  { zipf: 1, uploads: [uploadsPerStart] },
];
const fleetShares = [0.05, 0.1, 0.25, 0.5, 0.75, 1, fleetShare];
const hourSeconds = 3600;
const refills = [
  ['1 min', 60],
  ['10 min', 600],
  ['30 min', 1800],
  ['1 h', hourSeconds],
  ['6 h', 6 * hourSeconds],
  ['1 d', 24 * hourSeconds],
  ['3 d', 72 * hourSeconds],
  ['7 d', 168 * hourSeconds],
] as const;

export function sizeWorkers(world: World, scale: Scale): string[] {
  const { workers, workersSampled, workerSizesBytes, startsSampled, seed } = scale;
  const lines = workerSweep.map(({ zipf, affinity }) => {
    const shares = workerShares(world, new Popularity(world, zipf), {
      workers,
      workersSampled,
      sizesBytes: workerSizesBytes,
      starts: startsSampled,
      affinity,
      seed,
    });
    return [`Zipf ${zipf}, affinity ${affinity}`, ...shares.map(percent)];
  });
  const sizes = workerSizesBytes.map(bytes => `${bytes / MiB} MiB`);
  return ['% of reads answered by L1, by its size', ...table([['', ...sizes], ...lines])];
}

export function sizeFleet(world: World, { fleetStarts, seed }: Scale): string[] {
  const { bytes } = world;
  const sizesBytes = fleetShares.map(share => share * bytes);
  const lines = fleetSweep.flatMap(({ zipf, uploads }) => {
    const popularity = new Popularity(world, zipf);
    const latestFirst = world.latestFirst(popularity, new Random(seed));
    return uploads.map(uploadsPerStart => {
      const sizing = { sizesBytes, starts: fleetStarts, uploadsPerStart, latestFirst, seed };
      const shares = storeShares(world, popularity, sizing);
      return [`Zipf ${zipf}, ${uploadsPerStart} uploads a start`, ...shares.map(percent)];
    });
  });
  return [
    '% of reads that go to the origin, by the size of L2 without parity',
    ...table([
      ['', ...sizesBytes.map(size => `${(size / GiB).toFixed(size < GiB ? 2 : 0)} GiB`)],
      ['of all chunks', ...fleetShares.map(share => `${100 * share} %`)],
      ...lines,
    ]),
  ];
}

/** `steady`: requests to the origin a second while all is well. */
export function describeRefill(world: World, scale: Scale, steady: number): string[] {
  const atSeconds = refills.map(([, seconds]) => seconds);
  const rates = refillRates(world, new Popularity(world, zipf), { ...scale, atSeconds });
  return [
    'An L2 that came back empty, by arithmetic: requests to the origin a second',
    ...table([
      ['after', ...refills.map(([name]) => name)],
      ['', ...rates.map(perSecond => rate(perSecond + steady))],
    ]),
  ];
}
