/**
 * The daemon's control API: HTTP on a unix socket of mode 0600. Shapes of requests and answers;
 * errors travel as { code, message, hint } with status 400. A daemon that is ending answers with
 * 503, which is the same as none.
 *
 *   POST   /mounts          MountRequest → MountInfo; with `lease`, the answer stays open, the mount
 *                           ends by force when the connection does, and the other way round
 *   DELETE /mounts?dir=DIR  &force=1 also what is in use → {}
 *   GET    /mounts          → MountInfo[]
 *   GET    /status          → DaemonStatus
 *   GET    /figures         → Figures
 *   GET    /metrics         the same in Prometheus' text format
 *   POST   /stay            the daemon no longer ends by itself → {}
 *   POST   /stop            ?force=1 unmounts everything first → {} when all is done
 */

import type { DiskCacheStats } from '../cache/disk-cache.ts';
import type { FleetStats } from '../cache/fleet/fleet-source.ts';
import type { TierFigures } from '../cache/metered.ts';
import type { MetricsServerState } from './metrics-server.ts';
import type { MountAs, MountRecord } from './mount-table.ts';
import type { ReadFigures } from './read-figures.ts';
import type { StoreStats } from './stores.ts';

export interface MountRequest {
  /** NAME[:TAG]. */
  name: string;
  /** As IMGSTORE_STORE has it, a relative path made absolute. */
  store: string;
  /** Absolute; absent: the daemon makes a folder of its own. */
  dir?: string;
  as: MountAs;
  rw: boolean;
  /** Of the owner key, where IMGSTORE_KEY gives one: the daemon must have the same. */
  keyId?: string;
  /** The mount ends with the connection that asked for it. */
  lease: boolean;
  /** For a container on the mount: ended before the mount is. */
  containerRuntime?: string;
}

export interface MountInfo {
  id: string;
  name: string;
  store: string;
  recipe: string;
  dir: string;
  /** The mount's own folder under run/, for what belongs to it. */
  folder: string;
  as: MountAs;
  rw: boolean;
  via: MountRecord['via'] | null;
  /** The image's config, to start a container; null for a raw disk. */
  configText: string | null;
  diskBytes: number;
  /** Sealed bytes of the image's distinct chunks. */
  storedBytes: number;
  reads: number;
  bytesRead: number;
  readErrors: number;
  chunks: number;
  chunksFetched: number;
  storedBytesFetched: number;
  /** Chunk look-ups by where they were answered: memory, in-flight, l1, store. */
  hits: Record<string, number>;
  /** How long the daemon took to mount it. */
  mountMs: number;
}

export interface DaemonStatus {
  pid: number;
  mounts: number;
  uptimeSeconds: number;
  memoryBytes: number;
  memoryCacheBytes: number;
  diskCacheBytes: number;
  /** The shared cache, where one is named. */
  fleet: FleetStatus | null;
  /** Where metrics are served besides the socket. */
  metrics: MetricsServerState | null;
}

export interface FleetStatus {
  /** K+M. */
  shape: string;
  nodes: number;
  /** Names of those that are not asked now, or as probes only. */
  passedOver: string[];
}

/** Everything that is counted, since the daemon started. */
export interface Figures {
  status: DaemonStatus;
  /** Of all mounts and stores, the nearest first. */
  tiers: TierFigures[];
  diskCache: DiskCacheStats;
  fleet: FleetStats | null;
  stores: StoreStats[];
  mounts: MountFigures[];
  /** Of all mounts together, also of those that are gone. */
  reads: ReadFigures;
}

export interface MountFigures extends ReadFigures {
  id: string;
  name: string;
  dir: string;
  diskBytes: number;
}

export interface WireError {
  code: string;
  message: string;
  hint?: string;
}

export const metricsContentType = 'text/plain; version=0.0.4; charset=utf-8';

/** sockaddr_un has 108 bytes for the path and its NUL; see unix(7). */
export const socketPathMaxBytes = 107;
export const socketName = 'daemon.sock';
