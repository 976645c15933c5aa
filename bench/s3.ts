/**
 * A store in S3 against a store in a folder, in one run.
 *
 * "memory" is a service that can take it: bench/memory-s3.ts, a process that keeps objects in memory,
 * so that what is measured is imgstore, on processors that both share. "radosgw" is Ceph's, a real one:
 * beside each push to it stands how long its objects alone take it, without a push before them.
 * Requests and round trips are counted by the memory service.
 */

import { rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { KiB, MiB } from '../src/base/limits.ts';
import { RunChunker } from '../src/chunk/run-chunker.ts';
import { createBucket, startRadosGateway } from '../test/support/radosgw.ts';
import {
  type Context,
  interleaved,
  measured,
  processCpuMs,
  type Row,
  ratioOf,
  row,
  type Sample,
  type Workload,
} from './harness.ts';
import { BenchHome, type PushData } from './home.ts';
import { longestChain, MemoryS3Process, type TakenRequest } from './memory-s3.ts';
import { median } from './numbers.ts';
import { benchCollections } from './s3-collection.ts';
import { writeChangedImage, writeSyntheticImage } from './synthetic.ts';

/** Of what a request to S3 takes in the same region. */
const delayMs = 40;
const bucket = 'imgstore-bench';

export const workload: Workload = {
  name: 's3',
  summary: 'a store in S3: rates against a folder, requests, round trips of a cold mount',

  async run(context) {
    await using home = new BenchHome();
    await using memory = await MemoryService.start();
    const rates = await benchRates(home, memory, context);
    await memory.process.forget();
    const image = await benchImage(home, memory, context);
    const newPlace = () => ({ url: memory.newUrl(), environment: memory.environment });
    const collections = await benchCollections(home, memory.process, newPlace, context);
    return {
      rows: [...rates.rows, ...image, ...collections],
      commands: [
        'imgstore push --store s3://… oci:image/layout:image image       # all new, then unchanged',
        'node bench/put-objects.ts s3://… SIZES                          # its objects alone',
        'imgstore push --store s3://… oci:large/layout:after image       # one file changed',
        'imgstore mount --store s3://… image DIR && cat DIR/app/program',
        'imgstore gc --store s3://… --grace 0s',
      ],
      notes: rates.notes,
    };
  },
};

/** A service, and stores in it that nothing is in yet. */
interface Service {
  environment: Readonly<Record<string, string>>;
  newUrl(): string;
  /** Spent on requests so far. */
  cpuMs(): number;
}

class MemoryService implements Service, AsyncDisposable {
  readonly process: MemoryS3Process;
  readonly environment = {
    AWS_ACCESS_KEY_ID: 'nobody-checks',
    AWS_SECRET_ACCESS_KEY: 'nobody-checks',
  };
  #stores = 0;

  private constructor(process: MemoryS3Process) {
    this.process = process;
  }

  static async start(): Promise<MemoryService> {
    return new MemoryService(await MemoryS3Process.start());
  }

  newUrl(): string {
    return urlOf(this.process.endpoint, this.#stores++);
  }

  cpuMs(): number {
    return processCpuMs(this.process.pid);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process[Symbol.asyncDispose]();
  }
}

async function startGateway(): Promise<Service & AsyncDisposable> {
  const gateway = await startRadosGateway();
  await createBucket(gateway, bucket);
  let stores = 0;
  return {
    environment: gateway.environment,
    newUrl: () => urlOf(gateway.endpoint, stores++),
    cpuMs: () => gateway.processIds.reduce((sum, pid) => sum + processCpuMs(pid), 0),
    [Symbol.asyncDispose]: () => gateway.close(),
  };
}

function urlOf(endpoint: string, store: number): string {
  return `s3://${bucket}/store-${store}?endpoint=${endpoint}&region=us-east-1`;
}

async function push(home: BenchHome, source: string, name: string) {
  const { stdout, wallMs, cpuMs } = await home.measure(['push', '--json', source, name]);
  const data = JSON.parse(stdout) as PushData;
  return { ...data, value: data.contentBytes / 1e3 / wallMs, wallMs, cpuMs };
}

/** What a push sends, and how much of it: rates are of the image's file contents in all cases. */
async function benchRates(home: BenchHome, memory: MemoryService, context: Context) {
  const { small, report } = context;
  const source = writeSyntheticImage(home.path('image'), 'image', (small ? 8 : 256) * MiB);
  const sizes = home.path('sizes.json');
  home.useStore(memory.newUrl(), memory.environment);
  const { contentBytes } = await push(home, source, 'image');
  const taken = await memory.process.take();
  writeFileSync(sizes, JSON.stringify(taken.map(request => request.bodyBytes).filter(Boolean)));

  const serverCpu = new Map<string, number[]>();
  const spent = async (name: string, service: Service, work: () => Promise<Sample>) => {
    const before = service.cpuMs();
    const sample = await work();
    serverCpu.set(name, [...(serverCpu.get(name) ?? []), service.cpuMs() - before]);
    return sample;
  };
  const pushTo = (name: string, service: Service) =>
    spent(name, service, () => {
      home.useStore(service.newUrl(), service.environment);
      return push(home, source, 'image');
    });
  const putTo = (name: string, service: Service) =>
    spent(`${name}, its objects alone`, service, async () => {
      const command = [process.execPath, join(import.meta.dirname, 'put-objects.ts')];
      const env = { ...process.env, ...service.environment };
      const put = await measured([...command, service.newUrl(), sizes], { env });
      const { wallMs } = JSON.parse(put.stdout) as { wallMs: number };
      return { value: contentBytes / 1e3 / wallMs, cpuMs: put.cpuMs };
    });
  const directory = async (round: number) => {
    report(`s3: round ${round + 1}`);
    home.newStore();
    return push(home, source, 'image');
  };
  const services: Record<string, Service> = { memory };
  await using gateway = small ? undefined : await startGateway();
  if (gateway !== undefined) services['radosgw'] = gateway;
  const late = `memory, requests of ${delayMs} ms`;
  const pushLate = async () => {
    await memory.process.setDelay(delayMs);
    const sample = await pushTo(late, memory);
    await memory.process.setDelay(0);
    return sample;
  };
  const alternatives = Object.entries(services).flatMap(([name, service]) => [
    [name, () => pushTo(name, service)] as const,
    [`${name}, its objects alone`, () => putTo(name, service)] as const,
  ]);
  const samples: Record<string, Sample[]> = await interleaved(small ? 1 : 4, {
    directory,
    ...Object.fromEntries(alternatives),
    [late]: pushLate,
  });

  const folder = samples['directory']!;
  const enough = 0.7 * median(folder.map(({ value }) => value));
  const rows = Object.entries(samples).map(([name, of]) =>
    name === 'directory'
      ? row('push to a folder', 'MB/s', of)
      : row(`${name.includes('alone') ? '' : 'push to '}${name}`, 'MB/s', of, {
          ratio: ratioOf(of, folder, 'folder'),
          ...(name === 'memory' && { target: { atLeast: enough } }),
        }),
  );
  const notes = [...serverCpu].map(
    ([name, ms]) => `CPU of the service itself, ${name}: ${(median(ms) / 1e3).toFixed(2)} s.`,
  );
  return { rows, notes };
}

/** An image of 1 GB: unchanged, one file changed, mounted from afar. */
async function benchImage(
  home: BenchHome,
  memory: MemoryService,
  { small, report }: Context,
): Promise<Row[]> {
  report('s3: a large image');
  const dir = home.path('large');
  const { before, after, changed } = writeChangedImage(dir, small ? 16 * MiB : 1e9);
  home.useStore(memory.newUrl(), memory.environment);
  await memory.process.take();
  const full = await push(home, before, 'image');
  const first = await memory.process.take();
  await push(home, before, 'image');
  const unchanged = await memory.process.take();
  const again = await push(home, after, 'image');
  const changing = await memory.process.take();
  rmSync(dir, { recursive: true });

  const chunks = chunkCount(changed);
  const count = (what: string, value: number) => row(what, 'count', [{ value }]);
  const size = `${(full.contentBytes / 1e6).toFixed(0)} MB`;
  const rows: Row[] = [
    row(`push of ${size}`, 'ms', [{ value: full.wallMs, cpuMs: full.cpuMs }]),
    count('  requests', first.length),
    { ...count('  requests of it unchanged', unchanged.length), target: { atMost: 10 } },
    row('  one file changed', 'ms', [{ value: again.wallMs, cpuMs: again.cpuMs }], {
      ratio: { value: again.wallMs / full.wallMs, to: 'full' },
      target: { atMost: full.wallMs / 10 },
    }),
    count("  that file's chunks", chunks),
    { ...count('  uploads for it', uploads(changing)), target: { atMost: 4 * chunks } },
    count('  requests for it', changing.length),
  ];
  return [...rows, ...(await benchMount(home, memory, { changed, rounds: small ? 1 : 5 }))];
}

/** The daemon runs, and nothing of the image is on the worker. */
async function benchMount(
  home: BenchHome,
  memory: MemoryService,
  { changed, rounds }: { changed: Buffer; rounds: number },
): Promise<Row[]> {
  const dir = home.makeFolder('mounted');
  const [mounts, reads]: [Sample[], Sample[]] = [[], []];
  const [mountTrips, readTrips]: [number[], number[]] = [[], []];
  const [mountRequests, readRequests]: [number[], number[]] = [[], []];
  await memory.process.setDelay(delayMs);
  for (let round = 0; round < rounds; round++) {
    await home.coldDaemon();
    await memory.process.take();
    const { wallMs, cpuMs } = await home.measure(['mount', 'image', dir]);
    const mounting = await memory.process.take();
    const began = performance.now();
    const bytes = await readFile(join(dir, 'app/program'));
    reads.push({ value: performance.now() - began });
    const reading = await memory.process.take();
    if (!bytes.equals(changed)) throw new Error('the mount has other bytes than were pushed');
    mounts.push({ value: wallMs, cpuMs });
    mountTrips.push(longestChain(mounting));
    readTrips.push(longestChain(reading));
    mountRequests.push(mounting.length);
    readRequests.push(reading.length);
    await home.unmount(dir);
  }
  await memory.process.setDelay(0);
  const counts = (what: string, values: number[]) =>
    row(
      what,
      'count',
      values.map(value => ({ value })),
    );
  const size = `${(changed.length / KiB).toFixed(0)} KiB`;
  return [
    row(`cold mount, requests of ${delayMs} ms`, 'ms', mounts),
    { ...counts('  round trips to the first read', mountTrips), target: { atMost: 3 } },
    counts('  requests to the first read', mountRequests),
    row(`  then a file of ${size}`, 'ms', reads),
    counts('    round trips', readTrips),
    counts('    requests', readRequests),
  ];
}

function uploads(taken: readonly TakenRequest[]): number {
  return taken.filter(({ method, status }) => method === 'PUT' && status === 200).length;
}

/** If its bytes are cut alone. */
function chunkCount(bytes: Buffer): number {
  let count = 0;
  const chunker = new RunChunker(() => {
    count++;
    return undefined;
  });
  chunker.write(bytes);
  chunker.end({ alignBytes: 1 });
  return count;
}
