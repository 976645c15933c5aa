/** Figures of a daemon that has done nothing, for tests to fill in. */

import { TierMeter } from '../../src/cache/metered.ts';
import type { Figures, MountFigures } from '../../src/daemon/protocol.ts';
import { readFigures } from '../../src/daemon/read-figures.ts';
import { newReadCounters } from '../../src/image/chunk-reader.ts';

export const idleFigures: Figures = {
  status: {
    pid: 1,
    mounts: 0,
    uptimeSeconds: 2,
    memoryBytes: 3,
    memoryCacheBytes: 4,
    diskCacheBytes: 5,
    fleet: null,
    metrics: null,
  },
  tiers: [new TierMeter('l1').figures(), new TierMeter('store').figures()],
  diskCache: {
    entries: 0,
    bytes: 0,
    sizeMaxBytes: 1,
    declined: 0,
    evicted: 0,
    scanning: false,
    failing: false,
  },
  fleet: null,
  stores: [],
  mounts: [],
  reads: readFigures(newReadCounters()),
};

export const idleMount: MountFigures = {
  id: 'm1',
  name: 'image:latest',
  dir: '/mnt',
  diskBytes: 0,
  ...readFigures(newReadCounters()),
};
