/** Figures of a daemon that has done nothing, for tests to fill in. */

import { Histogram } from '../../src/base/histogram.ts';
import { TierMeter } from '../../src/cache/metered.ts';
import type { Figures, MountInfo } from '../../src/daemon/protocol.ts';

export const noTimes = new Histogram().figures();

export const idleFigures: Figures = {
  status: {
    pid: 1,
    mounts: 0,
    uptimeSeconds: 2,
    memoryBytes: 3,
    memoryCacheBytes: 4,
    diskCacheBytes: 5,
    metrics: null,
  },
  tiers: [new TierMeter('l1').figures(), new TierMeter('store').figures()],
  diskCache: { entries: 0, bytes: 0, sizeMaxBytes: 1, declined: 0, evicted: 0, scanning: false },
  fleet: null,
  stores: [],
  mounts: [],
};

export const idleMount: MountInfo = {
  id: 'm1',
  name: 'image:latest',
  dir: '/mnt',
  store: '/store',
  recipe: '',
  folder: '',
  as: 'erofs',
  rw: false,
  via: null,
  configText: null,
  diskBytes: 0,
  storedBytes: 0,
  reads: 0,
  bytesRead: 0,
  readErrors: 0,
  chunks: 0,
  chunksFetched: 0,
  storedBytesFetched: 0,
  hits: {},
  mountMs: 0,
};
