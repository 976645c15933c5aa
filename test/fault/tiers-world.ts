/**
 * Workers whose every tier can be made to misbehave, as they run on machines: daemons and mounts by the
 * command line, five memcached behind proxies, a store that speaks S3 behind another, a cache on ext4
 * below a file system with faults. And readers of the mounts, which compare every byte.
 */

import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { MemoryS3Process } from '../../bench/memory-s3.ts';
import { Limiter } from '../../src/base/limiter.ts';
import { memoryCacheSizeMinBytes } from '../../src/base/limits.ts';
import { ColdReader, type ColdReadResult } from '../support/cold-reader.ts';
import { FaultyFolder } from '../support/faulty-folder.ts';
import { MemcachedServer } from '../support/memcached.ts';
import { writeOciLayout } from '../support/oci-layout.ts';
import { runChecked, TestHome } from '../support/processes.ts';
import { Proxies, type RemoteStoreProxy, type RemoteTcpProxy } from '../support/proxies.ts';
import { manyBytes } from '../support/pushing.ts';
import { Random } from '../support/random.ts';
import { type LayerEntry, tarOf } from '../support/tar-builder.ts';
import { mountTmpfs } from '../support/temporary-folder.ts';

interface Context {
  after(fn: () => Promise<void>): void;
}

/** All files together are more than the memory cache: read one after the other, none is in it. */
const filesSizeMinBytes = memoryCacheSizeMinBytes * 1.1;
const unreadFiles = 32;
const readsAtOnce = 4;
/** Many times what reads wait here while another tier serves; a read that hangs is found by it. */
export const servedWithinMs = 15_000;
const credentials = { AWS_ACCESS_KEY_ID: 'any', AWS_SECRET_ACCESS_KEY: 'any' };

/** What all workers of a test share. */
export class TierService {
  readonly proxies = new Proxies();
  readonly reader = new ColdReader();
  readonly store: MemoryS3Process;
  readonly files: string[] = [];
  /** Small ones besides, which nobody reads but who wants to read something for the first time. */
  readonly unread: string[] = [];
  readonly #home = new TestHome();

  private constructor(store: MemoryS3Process) {
    this.store = store;
  }

  /** With an image pushed of files that have one or some chunks of their own. */
  static async start(): Promise<TierService> {
    const service = new TierService(await MemoryS3Process.start());
    await service.#push();
    return service;
  }

  get truthFolder(): string {
    return this.#home.path('truth');
  }

  get keysFolder(): string {
    return join(this.#home.home, 'keys');
  }

  async close(): Promise<void> {
    await Promise.all([this.proxies.close(), this.reader.close()]);
    await this.store[Symbol.asyncDispose]();
    await this.#home.close();
  }

  async #push(): Promise<void> {
    const random = new Random(1);
    mkdirSync(this.truthFolder);
    const entries: LayerEntry[] = [];
    const add = (path: string, content: Buffer) => {
      writeFileSync(join(this.truthFolder, path), content);
      entries.push({ path, content });
      return content.length;
    };
    for (let bytes = 0; bytes < filesSizeMinBytes; ) {
      const path = `f${this.files.length}`;
      this.files.push(path);
      bytes += add(path, manyBytes(random, random.between(70_000, 500_000)));
    }
    for (let i = 0; i < unreadFiles; i++) {
      const path = `unread${i}`;
      this.unread.push(path);
      add(path, manyBytes(random, 70_000));
    }
    const layer = { tar: tarOf(entries), compression: 'none' as const };
    writeOciLayout(this.#home.path('img'), { layers: [layer], tag: 'v1' });
    const store = ['--store', storeUrl(this.store.endpoint)];
    await this.#home.runChecked(['push', 'oci:img:v1', 'app', ...store], { env: credentials });
  }
}

function storeUrl(endpoint: string): string {
  return `s3://bucket/tiers?region=us-east-1&endpoint=${endpoint}`;
}

export interface FleetNode {
  name: string;
  server: MemcachedServer;
  proxy: RemoteTcpProxy;
}

export interface WorkerOptions {
  /** K+M, of a fleet with one node for each shard; without one, there is none. */
  shape?: string;
  /** `full`: always, so that L1 has nothing. `faulty`: ext4, behind a file system with faults. */
  disk: 'full' | 'well' | 'faulty';
}

/** What reads met, all together. */
export interface Met {
  right: number;
  /** Reads that failed, by code. */
  failed: Map<string, number>;
  longestMs: number;
}

const diskSizeBytes = 96 * 2 ** 20;

export class TierWorker {
  readonly service: TierService;
  readonly home = new TestHome();
  readonly mountPoint = this.home.path('mnt');
  nodes: FleetNode[] = [];
  store!: RemoteStoreProxy;
  disk: FaultyFolder | undefined;
  #environment: NodeJS.ProcessEnv = {};
  #at = 0;

  private constructor(service: TierService) {
    this.service = service;
  }

  /** Mounted; all is gone when the test ends. */
  static async start(
    context: Context,
    service: TierService,
    options: WorkerOptions,
  ): Promise<TierWorker> {
    const worker = new TierWorker(service);
    context.after(() => worker.#close());
    const { shape } = options;
    if (shape !== undefined) await worker.#startFleet(context, shape);
    await worker.#startDisk(options.disk);
    worker.store = await service.proxies.store(service.store.endpoint);
    const { host, port } = worker.store;
    const fleet = worker.nodes.map(({ name, proxy }) => `${name}=${proxy.host}:${proxy.port}`);
    worker.#environment = {
      ...credentials,
      IMGSTORE_STORE: storeUrl(`http://${host}:${port}`),
      ...(shape !== undefined && { IMGSTORE_FLEET: `${shape}/${fleet.join()}` }),
    };
    const config = { memoryCacheMaxBytes: memoryCacheSizeMinBytes };
    writeFileSync(join(worker.home.home, 'config.json'), JSON.stringify(config));
    cpSync(service.keysFolder, join(worker.home.home, 'keys'), { recursive: true });
    mkdirSync(worker.mountPoint);
    await worker.mount();
    return worker;
  }

  async mount(): Promise<void> {
    const env = this.#environment;
    await this.home.runChecked(['mount', 'app', this.mountPoint], { env });
  }

  /** Reads so many of the files, in their order; each that can be served is right, and in time. */
  async load(count: number): Promise<Met> {
    const files = Array.from({ length: count }, () => this.#next());
    const met = await this.read(files, servedWithinMs);
    assert.deepEqual([...met.failed], [], `reads that can be served, in ${this.log()}`);
    return met;
  }

  /** Wrong bytes, and reads that are not done at the deadline, fail the test. */
  async read(files: readonly string[], deadlineMs: number): Promise<Met> {
    const met: Met = { right: 0, failed: new Map(), longestMs: 0 };
    const limiter = new Limiter(readsAtOnce);
    const readOne = async (file: string) => {
      const { outcome, waitMs } = await this.#read(file, deadlineMs);
      assert.notEqual(outcome, 'wrong', `${file} has other bytes`);
      assert.notEqual(outcome, 'late', `${file} was not read in ${deadlineMs} ms\n${this.log()}`);
      met.longestMs = Math.max(met.longestMs, waitMs);
      if (outcome === 'right') met.right++;
      else met.failed.set(outcome, (met.failed.get(outcome) ?? 0) + 1);
    };
    await Promise.all(files.map(file => limiter.run(() => readOne(file))));
    return met;
  }

  /** Look-ups of chunks by the tier that answered. */
  async hits(): Promise<Map<string, number>> {
    const [mount] = JSON.parse(await this.#ask('/mounts')) as [{ hits: Record<string, number> }];
    return new Map(Object.entries(mount!.hits));
  }

  /** A metric of one node of the fleet. */
  ofNode({ name }: FleetNode, metric: string): Promise<number> {
    return this.count(`imgstore_fleet_node_${metric}`, `node="${name}"`);
  }

  /** The sum of a metric's values, of those with the label. */
  async count(metric: string, label = ''): Promise<number> {
    let sum = 0;
    for (const line of (await this.#ask('/metrics')).split('\n')) {
      if (!line.startsWith(metric) || !line.includes(label)) continue;
      if (/^[{ ]/.test(line.slice(metric.length))) sum += Number(line.split(' ').at(-1));
    }
    return sum;
  }

  async pid(): Promise<number> {
    return (JSON.parse(await this.#ask('/status')) as { pid: number }).pid;
  }

  /** The end of the daemon's log. */
  log(): string {
    return readFileSync(join(this.home.home, 'run', 'daemon.log'), 'utf8').slice(-3000);
  }

  #read(file: string, deadlineMs: number): Promise<ColdReadResult> {
    const { reader, truthFolder } = this.service;
    return reader.read(join(this.mountPoint, file), join(truthFolder, file), deadlineMs);
  }

  #next(): string {
    const { files } = this.service;
    return files[this.#at++ % files.length]!;
  }

  async #ask(path: string): Promise<string> {
    const socketPath = join(this.home.home, 'run', 'daemon.sock');
    return new Promise((resolve, reject) => {
      const asking = request({ socketPath, path }, answer => text(answer).then(resolve, reject));
      asking.on('error', reject);
      asking.end();
    });
  }

  async #startFleet(context: Context, shape: string): Promise<void> {
    const [data = 0, parity = 0] = shape.split('+').map(Number);
    for (let i = 0; i < data + parity; i++) {
      const server = await MemcachedServer.start(context);
      this.nodes.push({ name: `n${i}`, server, proxy: await this.service.proxies.tcp(server) });
    }
  }

  async #startDisk(kind: WorkerOptions['disk']): Promise<void> {
    const folder = join(this.home.home, 'cache');
    mkdirSync(folder, { recursive: true });
    if (kind === 'full') return mountTmpfs(folder, 4096);
    if (kind === 'well') return;
    const image = this.home.path('disk.ext4');
    await runChecked('truncate', ['-s', `${diskSizeBytes}`, image]);
    await runChecked('mkfs.ext4', ['-q', '-m', '0', '-O', '^has_journal', image]);
    this.disk = await FaultyFolder.start(this.home.path('disk'), folder, source =>
      runChecked('mount', ['-o', 'loop', image, source]),
    );
  }

  async #close(): Promise<void> {
    try {
      if (this.disk !== undefined) this.disk.fault = undefined;
      await this.home.close();
    } finally {
      await this.disk?.close();
    }
  }
}

/** What the counts grew by. */
export function grown(before: Map<string, number>, after: Map<string, number>, name: string) {
  return (after.get(name) ?? 0) - (before.get(name) ?? 0);
}
