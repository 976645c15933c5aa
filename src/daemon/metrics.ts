/**
 * The daemon's figures as metrics. Names are the interface to dashboards and alerts: they are listed
 * in docs/operating-caches.md, and do not change. Labels are bounded: tiers, outcomes and nodes are
 * few, and of mounts so many are listed that a scrape stays at some megabytes.
 */

import type { DiskCacheStats } from '../cache/disk-cache.ts';
import type { FleetStats } from '../cache/fleet/fleet-source.ts';
import type { NodeStats } from '../cache/fleet/node.ts';
import { getOutcomes, type TierFigures } from '../cache/metered.ts';
import { type Labels, MetricsText, type Sample } from './metrics-text.ts';
import type { DaemonStatus, Figures, MountFigures } from './protocol.ts';
import type { ReadFigures } from './read-figures.ts';
import type { StoreStats } from './stores.ts';

/** The oldest: a mount that is listed stays so until it ends. */
export const mountsListedMax = 200;

const breakerStates: Readonly<Record<NodeStats['breaker'], number>> = {
  closed: 0,
  'half-open': 1,
  open: 2,
};

export function formatMetrics(figures: Figures): string {
  const text = new MetricsText();
  addStatus(text, figures.status);
  addTiers(text, figures.tiers);
  addDiskCache(text, figures.diskCache);
  if (figures.fleet !== null) {
    addFleet(text, figures.fleet);
    addNodes(text, figures.fleet.nodes);
  }
  addStores(text, figures.stores);
  addReads(text, figures.reads);
  addMounts(text, figures.mounts);
  return text.toString();
}

function addStatus(text: MetricsText, status: DaemonStatus): void {
  text.gauge('imgstore_mounts', 'Images mounted.', status.mounts);
  text.gauge('imgstore_uptime_seconds', 'Age of the daemon.', status.uptimeSeconds);
  text.gauge(
    'imgstore_resident_memory_bytes',
    'Resident memory of the daemon.',
    status.memoryBytes,
  );
  text.gauge('imgstore_memory_cache_bytes', 'Decoded chunks in memory.', status.memoryCacheBytes);
}

function addTiers(text: MetricsText, tiers: readonly TierFigures[]): void {
  text.histograms(
    'imgstore_tier_get_seconds',
    'Chunks asked of a tier, by what came of it. shed: a prefetch for which there was no room.',
    tiers.flatMap(({ tier, gets }) =>
      getOutcomes.map(outcome => [{ tier, outcome }, gets[outcome]] as const),
    ),
  );
  const each = (value: (figures: TierFigures) => number): Sample[] =>
    tiers.map(figures => [{ tier: figures.tier }, value(figures)]);
  text.counters(
    'imgstore_tier_hit_bytes_total',
    'Sealed bytes that a tier gave.',
    each(({ hitBytes }) => hitBytes),
  );
  text.counters(
    'imgstore_tier_drops_total',
    'Chunks that a tier was told to forget since a copy was wrong.',
    each(({ drops }) => drops),
  );
  text.gauges(
    'imgstore_tier_in_flight',
    'Chunks that a tier is being asked for.',
    each(({ inFlight }) => inFlight),
  );
}

function addDiskCache(text: MetricsText, stats: DiskCacheStats): void {
  text.gauge('imgstore_disk_cache_bytes', "Sealed chunks on this worker's disk.", stats.bytes);
  text.gauge('imgstore_disk_cache_max_bytes', 'Their bound.', stats.sizeMaxBytes);
  text.gauge('imgstore_disk_cache_chunks', 'Their number.', stats.entries);
  text.counter(
    'imgstore_disk_cache_evicted_total',
    'Chunks that gave way to others.',
    stats.evicted,
  );
  text.counter(
    'imgstore_disk_cache_declined_total',
    'Chunks not kept: too many at once, the disk failed, or the scan takes long.',
    stats.declined,
  );
  text.gauge(
    'imgstore_disk_cache_scanning',
    'Whether what earlier daemons left is still being looked up.',
    Number(stats.scanning),
  );
  text.gauge(
    'imgstore_disk_cache_failing',
    'Whether the disk takes no chunks: it is full, read-only or broken.',
    Number(stats.failing),
  );
}

function addFleet(text: MetricsText, fleet: FleetStats): void {
  for (const [name, help, value] of [
    ['hits', 'Chunks that the shared cache gave.', fleet.hits],
    ['misses', 'Chunks that it was asked for and did not give.', fleet.misses],
    ['turned_away', 'Misses because too many reads waited already.', fleet.turnedAway],
    ['shed', 'Prefetches for which there was no room, or that another worker does.', fleet.shed],
    ['degraded', 'Hits for which a node did not give its shard.', fleet.degraded],
    ['repairs', 'Degraded hits after which shards were stored again.', fleet.repairs],
    ['puts', 'Chunks stored in it.', fleet.puts],
    ['puts_declined', 'Chunks not stored in it: too many at once.', fleet.putsDeclined],
    ['leases_won', 'Misses that this worker fetched for all.', fleet.leasesWon],
    [
      'leases_waited',
      'Fetches saved: another worker had the lease and brought it.',
      fleet.leasesWaited,
    ],
    ['leases_in_vain', 'Waits for another worker that brought nothing.', fleet.leasesInVain],
  ] as const) {
    text.counter(`imgstore_fleet_${name}_total`, help, value);
  }
  text.gauge('imgstore_fleet_reading', 'Reads that ask nodes.', fleet.reading);
  text.gauge('imgstore_fleet_waiting', 'Reads that wait for their turn.', fleet.waiting);
  text.gauge(
    'imgstore_fleet_prefetches_waiting',
    'Prefetches that wait for theirs.',
    fleet.prefetchesWaiting,
  );
  text.gauge(
    'imgstore_fleet_leases_waiting',
    'Reads that wait for another worker.',
    fleet.leasesWaiting,
  );
  text.gauge('imgstore_fleet_repairing', 'Chunks whose shards are stored again.', fleet.repairing);
  text.gauge('imgstore_fleet_pending_bytes', 'Chunks that wait to be stored.', fleet.pendingBytes);
}

function addNodes(text: MetricsText, nodes: readonly NodeStats[]): void {
  const each = (value: (node: NodeStats) => number): Sample[] =>
    nodes.map(node => [{ node: node.name }, value(node)]);
  text.gauges(
    'imgstore_fleet_node_breaker',
    "The node's circuit breaker: 0 closed, 1 half open, 2 open.",
    each(({ breaker }) => breakerStates[breaker]),
  );
  for (const [name, help, value] of [
    ['asked', 'Shards that the node was asked for.', (node: NodeStats) => node.asked],
    ['answered', 'Shards that it gave.', (node: NodeStats) => node.answered],
    ['absent', 'Shards that it did not have.', (node: NodeStats) => node.absent],
    ['failed', 'Requests without an answer in time.', (node: NodeStats) => node.failed],
    ['opened', 'Times that its circuit breaker opened.', (node: NodeStats) => node.opened],
    ['stored', 'Shards that it took.', (node: NodeStats) => node.stored],
    ['refused', 'Shards that it did not take.', (node: NodeStats) => node.refused],
  ] as const) {
    text.counters(`imgstore_fleet_node_${name}_total`, help, each(value));
  }
  text.counters(
    'imgstore_fleet_node_wrong_total',
    'Answers of the node that were no shard of the chunk.',
    nodes.flatMap(({ name, wrong }) =>
      Object.entries(wrong).map(([kind, count]) => [{ node: name, kind }, count] as const),
    ),
  );
}

function addStores(text: MetricsText, stores: readonly StoreStats[]): void {
  const each = (value: (store: StoreStats) => number): Sample[] =>
    stores.map(store => [{ store: store.location }, value(store)]);
  for (const [name, help, value] of [
    [
      'requests',
      'Chunks that the store is being asked for.',
      (store: StoreStats) => store.requests,
    ],
    [
      'waiting',
      'Reads that wait for their turn to ask it, or for it to answer.',
      (store: StoreStats) => store.waiting,
    ],
    [
      'prefetches_waiting',
      'Prefetches that wait for theirs.',
      (store: StoreStats) => store.prefetchesWaiting,
    ],
    [
      'outage_seconds',
      'For how long it has not answered; 0 while all is well.',
      ({ outage }: StoreStats) => Math.max(outage === null ? 0 : 1, outage?.seconds ?? 0),
    ],
    [
      'recovering',
      'Whether it answers again after an outage and is asked by few at first.',
      ({ outage }: StoreStats) => Number(outage?.isRecovering === true),
    ],
  ] as const) {
    text.gauges(`imgstore_store_${name}`, help, each(value));
  }
  text.counters(
    'imgstore_store_outages_total',
    'Times that it stopped answering.',
    each(({ outages }) => outages),
  );
}

const readCounts = [
  ['reads', 'Reads of disks by the kernel.', (of: ReadFigures) => of.reads],
  ['read_bytes', 'Bytes of disks read by the kernel.', (of: ReadFigures) => of.bytesRead],
  ['read_errors', 'Reads that failed.', (of: ReadFigures) => of.readErrors],
] as const;

/** Of all mounts, whether they are listed below and still there or not. */
function addReads(text: MetricsText, reads: ReadFigures): void {
  for (const [name, help, value] of readCounts) {
    text.counter(`imgstore_${name}_total`, help, value(reads));
  }
  text.histograms('imgstore_read_seconds', 'Reads of disks by the kernel.', [
    [{}, reads.readTimes],
  ]);
  text.counters(
    'imgstore_lookups_total',
    'Chunk look-ups by the tier that answered, prefetches too.',
    Object.entries(reads.hits).map(([tier, count]) => [{ tier }, count] as const),
  );
  text.histograms(
    'imgstore_lookup_seconds',
    'Chunk look-ups of reads that memory did not answer, by the tier that did.',
    Object.entries(reads.lookupTimes).map(([tier, times]) => [{ tier }, times] as const),
  );
}

function addMounts(text: MetricsText, mounts: readonly MountFigures[]): void {
  const listed = mounts.slice(0, mountsListedMax);
  text.gauge(
    'imgstore_mounts_unlisted',
    'Mounts that have no metrics of their own: there are too many.',
    mounts.length - listed.length,
  );
  const each = (value: (mount: MountFigures) => number): Sample[] =>
    listed.map(mount => [labelsOf(mount), value(mount)]);
  for (const [name, help, value] of [
    ...readCounts,
    ['chunks_fetched', 'Chunks fetched from the store.', (of: ReadFigures) => of.chunksFetched],
    [
      'stored_bytes_fetched',
      'Sealed bytes fetched from the store.',
      (of: ReadFigures) => of.storedBytesFetched,
    ],
  ] as const) {
    text.counters(`imgstore_mount_${name}_total`, help, each(value));
  }
  const byTier = <V>(tiers: (mount: MountFigures) => Record<string, V>): Sample<V>[] =>
    listed.flatMap(mount =>
      Object.entries(tiers(mount)).map(
        ([tier, value]) => [{ ...labelsOf(mount), tier }, value] as const,
      ),
    );
  text.counters(
    'imgstore_mount_hits_total',
    'Chunk look-ups by the tier that answered, prefetches too.',
    byTier(mount => mount.hits),
  );
  text.gauges(
    'imgstore_mount_disk_bytes',
    'Size of the disk.',
    each(mount => mount.diskBytes),
  );
  text.histograms(
    'imgstore_mount_read_seconds',
    'Reads of the disk by the kernel.',
    listed.map(mount => [labelsOf(mount), mount.readTimes]),
  );
  text.histograms(
    'imgstore_mount_lookup_seconds',
    'Chunk look-ups of reads that memory did not answer, by the tier that did.',
    byTier(mount => mount.lookupTimes),
  );
}

function labelsOf({ id, name, dir }: MountFigures): Labels {
  return { mount: id, name, dir };
}
