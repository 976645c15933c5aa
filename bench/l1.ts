/**
 * Which eviction the worker's cache should have: traces of starts, replayed against the cache's own
 * code and other policies at several sizes. Everything follows from the seed, so that the figures are
 * exact, whatever else the machine does; processor time stands beside them.
 */

import { type ChunkId, sha256Hex } from '../src/base/digest.ts';
import { CacheIndex } from '../src/cache/cache-index.ts';
import { type Row, row, type Sample, type Workload } from './harness.ts';
import { Belady } from './policies/belady.ts';
import { Lru } from './policies/lru.ts';
import { Lru2 } from './policies/lru-2.ts';
import type { Policy, PolicyOptions } from './policies/policy.ts';
import { S3Fifo } from './policies/s3-fifo.ts';
import { Slru } from './policies/slru.ts';
import { TwoQ } from './policies/two-q.ts';
import { WTinyLfu } from './policies/w-tiny-lfu.ts';
import { WorkersCache } from './policies/workers-cache.ts';
import { startTraces, type TraceOptions } from './traces/starts.ts';
import type { Trace } from './traces/trace.ts';

const seed = 1;
/** Of the bytes of all chunks of a trace, each once. */
const sizeShares = [0.02, 0.05, 0.1, 0.2, 0.4];
const restartShare = 0.1;

const policies: Record<string, (trace: Trace, options: PolicyOptions) => Policy> = {
  LRU: (_, options) => new Lru(options),
  'LRU-2': (_, options) => new Lru2(options),
  SLRU: (_, options) => new Slru(options),
  '2Q': (_, options) => new TwoQ(options),
  'S3-FIFO': (_, options) => new S3Fifo(options),
  'W-TinyLFU': (_, options) => new WTinyLfu(options),
  imgstore: (trace, { sizeMaxBytes }) => new WorkersCache(trace, sizeMaxBytes),
  Belady: ({ requests }, options) => new Belady(options, requests),
};

export const workload: Workload = {
  name: 'l1',
  summary: "eviction from the worker's cache: byte hit rates of policies on traces of starts",

  async run({ small, report }) {
    const size = small ? { images: 2000, starts: 2000 } : { images: 20_000, starts: 20_000 };
    const options: TraceOptions = { seed, ...size };
    const traces = startTraces(options);
    const samples = new Map<string, Sample[]>(Object.keys(policies).map(name => [name, []]));
    const lines: string[] = [];
    for (const trace of traces) {
      report(`l1: ${trace.name}`);
      lines.push(...replayAll(trace, samples));
    }
    const rows = [...samples].map(([name, values]) => meanRow(name, values));
    rows.push(...restartRows(traces.find(({ name }) => name === 'bursts')!), ...costRows(small));
    return {
      rows,
      commands: [`node bench/main.ts l1${small ? ' --small' : ''}`],
      notes: [
        `Traces are of ${options.starts} starts of ${options.images} images, seed ${seed}.`,
        ['byte hit rate, %', ...Object.keys(policies)].join(' | '),
        ...lines,
      ],
    };
  },
};

function replayAll(trace: Trace, samples: Map<string, Sample[]>): string[] {
  return sizeShares.map(share => {
    const sizeMaxBytes = share * trace.footprintBytes;
    const rates = Object.entries(policies).map(([name, create]) => {
      const policy = create(trace, { sizes: trace.sizes, sizeMaxBytes });
      const before = process.cpuUsage();
      const value = byteHitRate(trace, chunk => policy.request(chunk));
      const cpuMs = cpuSince(before);
      samples.get(name)!.push({ value, cpuMs });
      return value.toFixed(1);
    });
    const gigabytes = (trace.footprintBytes / 1e9).toFixed(1);
    return [`${trace.name}, ${100 * share} % of ${gigabytes} GB`, ...rates].join(' | ');
  });
}

/** In percent. */
function byteHitRate({ requests, sizes }: Trace, request: (chunk: number) => boolean): number {
  let bytes = 0;
  let hitBytes = 0;
  for (const chunk of requests) {
    bytes += sizes[chunk]!;
    if (request(chunk)) hitBytes += sizes[chunk]!;
  }
  return (100 * hitBytes) / bytes;
}

/** Means, where other workloads have medians: the traces are of different kinds. */
function meanRow(name: string, samples: readonly Sample[]): Row {
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const value = mean(samples.map(sample => sample.value));
  return {
    ...row(`${name}, byte hit rate`, '%', [{ value }]),
    n: samples.length,
    cpuMs: mean(samples.map(({ cpuMs }) => cpuMs!)),
  };
}

/** A daemon that starts again before each burst, which is when it can lose most. */
function restartRows(trace: Trace): Row[] {
  const rate = (restart: (cache: WorkersCache) => void) => {
    // An hour, if a worker starts an image every three seconds.
    const touchInterval = trace.requests.length / trace.marks.length;
    const cache = new WorkersCache(trace, restartShare * trace.footprintBytes, touchInterval);
    const marks = new Set(trace.marks);
    let at = 0;
    return byteHitRate(trace, chunk => {
      if (marks.has(at++)) restart(cache);
      return cache.request(chunk);
    });
  };
  return [
    row('bursts, no restart', '%', [{ value: rate(() => {}) }]),
    row('bursts, a restart before each', '%', [{ value: rate(cache => cache.restart(true)) }]),
    row('bursts, if files had no sign', '%', [{ value: rate(cache => cache.restart(false)) }]),
  ];
}

/** Of the index alone, in processor time. */
function costRows(small: boolean): Row[] {
  const entries = small ? 10_000 : 200_000;
  const ids = Array.from({ length: 2 * entries }, (_, n) => idOf(n));
  const index = new CacheIndex(entries * 200_704);
  const add = (id: ChunkId) => void index.add(id, { sizeBytes: 200_000, touchedMs: 0 });
  ids.slice(0, entries).forEach(add);
  const perCall = (what: string, work: (id: ChunkId) => void, chosen: readonly ChunkId[]) => {
    const before = process.cpuUsage();
    chosen.forEach(work);
    const cpuMs = cpuSince(before);
    return row(what, 'µs', [{ value: (1000 * cpuMs) / chosen.length, cpuMs }]);
  };
  return [
    perCall('a use', id => void index.use(id), ids.slice(0, entries)),
    perCall('an addition that evicts', add, ids.slice(entries)),
  ];
}

function idOf(n: number): ChunkId {
  return sha256Hex(Buffer.from(`${n}`)) as ChunkId;
}

function cpuSince(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}
