/**
 * One worker's daemon behind its control API: the worker, what its mounts read through, and when it
 * ends: asked to, by a signal, or because nothing has been mounted for a while.
 */

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError, ImgstoreError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Settings } from '../base/settings.ts';
import { DiskCache } from '../cache/disk-cache.ts';
import type { FleetSource } from '../cache/fleet/fleet-source.ts';
import { metered, TierMeter } from '../cache/metered.ts';
import { unmount } from '../fuse/mount.ts';
import { FuseServer } from '../fuse/server.ts';
import { DecodedCache } from '../image/decoded-cache.ts';
import { ownerKeys } from '../keys/owner-keys.ts';
import type { Control } from './control-server.ts';
import { formatMetrics } from './metrics.ts';
import type { MetricsServer } from './metrics-server.ts';
import { MountTable, mountTableFolder } from './mount-table.ts';
import type { DaemonStatus, Figures, FleetStatus, MountInfo, MountRequest } from './protocol.ts';
import { recover } from './recover.ts';
import { Stores } from './stores.ts';
import type { Tracing } from './tracing.ts';
import { Worker } from './worker.ts';

const idleExitMs = 10_000;
const idleCheckMs = 1000;

export interface DaemonOptions {
  settings: Settings;
  env: NodeJS.ProcessEnv;
  exitWhenIdle: boolean;
  log: Log;
}

interface Parts {
  fuse: FuseServer;
  worker: Worker;
  stores: Stores;
  diskCache: DiskCache;
  fleet: FleetSource | undefined;
  decoded: DecodedCache;
  meters: readonly TierMeter[];
  tracing: Tracing | undefined;
}

export class Daemon implements Control {
  readonly #parts: Parts;
  readonly #log: Log;
  readonly #startedMs = performance.now();
  readonly #wanted = Promise.withResolvers<void>();
  readonly #closed = Promise.withResolvers<void>();
  #metricsServer: MetricsServer | undefined;
  #mayExit: boolean;

  private constructor(parts: Parts, options: DaemonOptions) {
    this.#parts = parts;
    this.#log = options.log;
    this.#mayExit = options.exitWhenIdle;
  }

  /** Clears what a killed one left, then serves disks. Errors: those of FuseServer.mount, IO. */
  static async open(options: DaemonOptions): Promise<Daemon> {
    const { settings, env, log } = options;
    // What may be refused comes first: it must not leave a FUSE mount behind.
    const serveMetrics = await metricsServer(options);
    const fleet = await openFleet(options);
    const diskCache = new DiskCache({
      folder: settings.cacheDirectory,
      sizeMaxBytes: settings.diskCacheMaxBytes,
      log,
    });
    const decoded = new DecodedCache(settings.memoryCacheMaxBytes);
    const directory = settings.keysDirectory;
    const keys = ownerKeys({ directory, env, create: false });
    const tiers = fleet === undefined ? [diskCache] : [diskCache, fleet];
    const meters = tiers.map(({ tier }) => new TierMeter(tier));
    const caches = tiers.map((tier, index) => metered(tier, meters[index]!));
    const storeMeter = new TierMeter('store');
    const stores = new Stores({ caches, decoded, ownerKeys: keys, storeMeter, log });
    const tracing = await openTracing(options);
    try {
      const table = await MountTable.open(mountTableFolder(settings.runDirectory));
      const mountPoint = join(settings.runDirectory, 'fuse');
      await recover(table, mountPoint, log);
      await mkdir(mountPoint, { recursive: true, mode: 0o700 });
      const fuse = await FuseServer.mount({ mountPoint, log });
      const traceReads = tracing?.readsOf.bind(tracing);
      const worker = new Worker({ table, stores, fuse, traceReads, log });
      const caching = { diskCache, fleet, decoded, meters: [...meters, storeMeter] };
      const daemon = new Daemon({ fuse, worker, stores, tracing, ...caching }, options);
      daemon.#metricsServer = serveMetrics?.(() => daemon.metrics());
      return daemon;
    } catch (error) {
      await diskCache.close();
      await fleet?.close();
      await tracing?.close();
      throw error;
    }
  }

  get ending(): boolean {
    return this.#parts.worker.closing;
  }

  mount(request: MountRequest, signal: AbortSignal): Promise<MountInfo> {
    return this.#parts.worker.mount(request, signal);
  }

  unmount(dir: string, options: { force: boolean }): Promise<void> {
    return this.#parts.worker.unmount(dir, options);
  }

  whenGone(id: string): Promise<void> {
    return this.#parts.worker.whenGone(id);
  }

  release(id: string): Promise<void> {
    return this.#parts.worker.release(id);
  }

  mounts(): MountInfo[] {
    return this.#parts.worker.list();
  }

  status(): DaemonStatus {
    const { worker, decoded, diskCache, fleet } = this.#parts;
    return {
      pid: process.pid,
      mounts: worker.list().length,
      uptimeSeconds: Math.round((performance.now() - this.#startedMs) / 1000),
      memoryBytes: process.memoryUsage.rss(),
      memoryCacheBytes: decoded.sizeBytes,
      diskCacheBytes: diskCache.stats().bytes,
      fleet: fleet === undefined ? null : fleetStatus(fleet),
      metrics: this.#metricsServer?.state ?? null,
    };
  }

  figures(): Figures {
    const { worker, meters, diskCache, fleet, stores } = this.#parts;
    return {
      status: this.status(),
      tiers: meters.map(meter => meter.figures()),
      diskCache: diskCache.stats(),
      fleet: fleet?.stats() ?? null,
      stores: stores.stats(),
      ...worker.figures(),
    };
  }

  metrics(): string {
    return formatMetrics(this.figures());
  }

  stay(): void {
    this.#mayExit = false;
  }

  async stop({ force }: { force: boolean }): Promise<void> {
    if (!this.ending) await this.#parts.worker.close({ force });
    this.#wanted.resolve();
    await this.#closed.promise;
  }

  /** Resolves when it is time to close: after `stop`, when the signal comes, or when idle. */
  async untilEnd(signal: AbortSignal): Promise<void> {
    let lastBusyMs = performance.now();
    const check = setInterval(() => {
      if (this.#parts.worker.busy) lastBusyMs = performance.now();
      else if (this.#mayExit && performance.now() - lastBusyMs > idleExitMs) this.#wanted.resolve();
    }, idleCheckMs);
    const onAbort = () => this.#wanted.resolve();
    signal.addEventListener('abort', onAbort);
    if (signal.aborted) onAbort();
    await this.#wanted.promise;
    clearInterval(check);
    signal.removeEventListener('abort', onAbort);
  }

  /** Unmounts everything, in use or not: whoever closes has decided that. */
  async close(): Promise<void> {
    const { worker, fuse, stores, diskCache, fleet, tracing } = this.#parts;
    try {
      await worker.close({ force: true });
      await closeFuse(fuse, this.#log);
      await stores.close();
      await diskCache.close();
      await fleet?.close();
      await tracing?.close();
    } finally {
      this.#metricsServer?.close();
      this.#closed.resolve();
    }
  }
}

/** Its modules are loaded where there is one: they would cost each other daemon time to start. */
async function openFleet({ settings, log }: DaemonOptions): Promise<FleetSource | undefined> {
  if (settings.fleet === undefined) return undefined;
  const [{ parseFleet }, fleet] = await Promise.all([
    import('../cache/fleet/fleet-config.ts'),
    import('../cache/fleet/fleet-source.ts'),
  ]);
  const { text, source } = settings.fleet;
  return new fleet.FleetSource({ ...parseFleet(text, source), log });
}

/** As openFleet; the server is to be made when there are metrics to serve. */
async function metricsServer({ settings, log }: DaemonOptions) {
  if (settings.metrics === undefined) return undefined;
  const server = await import('./metrics-server.ts');
  const address = server.parseListenAddress(settings.metrics);
  return (text: () => string) => new server.MetricsServer({ address, text, log });
}

/** As openFleet. Without the packages, which are optional, or with variables they refuse, reads go on. */
async function openTracing({ env, log }: DaemonOptions): Promise<Tracing | undefined> {
  const endpoint = env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'] || env['OTEL_EXPORTER_OTLP_ENDPOINT'];
  const isOff = env['OTEL_SDK_DISABLED'] === 'true' || env['OTEL_TRACES_EXPORTER'] === 'none';
  if (!endpoint || isOff) return undefined;
  try {
    const { Tracing } = await import('./tracing.ts');
    return new Tracing({ env, log });
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === 'ERR_MODULE_NOT_FOUND';
    const missing = "OpenTelemetry's packages are not installed. npm ci brings them.";
    log('warn', `Cannot trace reads: ${isMissing ? missing : describeError(error)}`);
    return undefined;
  }
}

function fleetStatus(fleet: FleetSource): FleetStatus {
  const { dataShards, parityShards } = fleet.shape;
  const { nodes } = fleet.stats();
  return {
    shape: `${dataShards}+${parityShards}`,
    nodes: nodes.length,
    passedOver: nodes.filter(({ breaker }) => breaker !== 'closed').map(({ name }) => name),
  };
}

/** Something may still use a disk that went out of sight: it gets errors from now on. */
async function closeFuse(fuse: FuseServer, log: Log): Promise<void> {
  try {
    await fuse.close();
  } catch (error) {
    if (!(error instanceof ImgstoreError) || error.code !== 'BUSY') throw error;
    log('warn', 'Ending while images that were unmounted by force are in use');
    await unmount(fuse.mountPoint, { detach: true });
    await fuse.close();
  }
}
