/** The daemon's counters in Prometheus' text format, version 0.0.4. */

import type { FleetStats } from '../cache/fleet/fleet-source.ts';
import type { NodeStats } from '../cache/fleet/node.ts';
import type { DaemonStatus, MountInfo } from './protocol.ts';

interface Metric {
  name: string;
  type: 'counter' | 'gauge';
  help: string;
  value: (mount: MountInfo) => number;
}

const perMount: readonly Metric[] = [
  {
    name: 'imgstore_mount_reads_total',
    type: 'counter',
    help: 'Reads of the disk by the kernel.',
    value: mount => mount.reads,
  },
  {
    name: 'imgstore_mount_read_bytes_total',
    type: 'counter',
    help: 'Bytes of the disk read by the kernel.',
    value: mount => mount.bytesRead,
  },
  {
    name: 'imgstore_mount_read_errors_total',
    type: 'counter',
    help: 'Chunks that could not be had when they were read.',
    value: mount => mount.readErrors,
  },
  {
    name: 'imgstore_mount_chunks_fetched_total',
    type: 'counter',
    help: 'Chunks fetched from the store.',
    value: mount => mount.chunksFetched,
  },
  {
    name: 'imgstore_mount_stored_bytes_fetched_total',
    type: 'counter',
    help: 'Sealed bytes fetched from the store.',
    value: mount => mount.storedBytesFetched,
  },
  {
    name: 'imgstore_mount_disk_bytes',
    type: 'gauge',
    help: 'Size of the disk.',
    value: mount => mount.diskBytes,
  },
];

export function formatMetrics(
  status: DaemonStatus,
  mounts: readonly MountInfo[],
  fleet?: FleetStats,
): string {
  const lines: string[] = [];
  const head = (name: string, type: string, help: string) =>
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
  const gauge = (name: string, help: string, value: number) => {
    head(name, 'gauge', help);
    lines.push(`${name} ${value}`);
  };
  gauge('imgstore_mounts', 'Images mounted.', status.mounts);
  gauge('imgstore_resident_memory_bytes', 'Resident memory of the daemon.', status.memoryBytes);
  gauge('imgstore_memory_cache_bytes', 'Decoded chunks in memory.', status.memoryCacheBytes);
  gauge('imgstore_disk_cache_bytes', "Sealed chunks on this worker's disk.", status.diskCacheBytes);
  for (const { name, type, help, value } of perMount) {
    head(name, type, help);
    for (const mount of mounts) lines.push(`${name}{${labels(mount)}} ${value(mount)}`);
  }
  const hits = 'imgstore_mount_hits_total';
  head(hits, 'counter', 'Chunk look-ups by the tier that answered.');
  for (const mount of mounts) {
    for (const [tier, count] of Object.entries(mount.hits)) {
      lines.push(`${hits}{${labels(mount)},tier="${escapeLabel(tier)}"} ${count}`);
    }
  }
  if (fleet !== undefined) lines.push(...fleetLines(fleet));
  return `${lines.join('\n')}\n`;
}

function* fleetLines(fleet: FleetStats): Generator<string, void, undefined> {
  for (const [name, help, value] of [
    ['hits', 'Chunks that the shared cache gave.', fleet.hits],
    ['misses', 'Chunks that it was asked for and did not give.', fleet.misses],
    ['degraded', 'Hits for which a node did not give its shard.', fleet.degraded],
    ['puts', 'Chunks stored in it.', fleet.puts],
    ['puts_declined', 'Chunks not stored in it: too many at once.', fleet.putsDeclined],
  ] as const) {
    yield `# HELP imgstore_fleet_${name}_total ${help}`;
    yield `# TYPE imgstore_fleet_${name}_total counter`;
    yield `imgstore_fleet_${name}_total ${value}`;
  }
  for (const [name, help, count] of [
    ['answered', 'Shards that the node gave.', (node: NodeStats) => node.answered],
    ['absent', 'Shards that it did not have.', (node: NodeStats) => node.absent],
    ['failed', 'Requests without an answer in time.', (node: NodeStats) => node.failed],
    ['opened', 'Times that its circuit breaker opened.', (node: NodeStats) => node.opened],
  ] as const) {
    yield `# HELP imgstore_fleet_node_${name}_total ${help}`;
    yield `# TYPE imgstore_fleet_node_${name}_total counter`;
    for (const node of fleet.nodes) {
      yield `imgstore_fleet_node_${name}_total{node="${escapeLabel(node.name)}"} ${count(node)}`;
    }
  }
}

function labels({ id, name, dir }: MountInfo): string {
  return `mount="${id}",name="${escapeLabel(name)}",dir="${escapeLabel(dir)}"`;
}

function escapeLabel(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
