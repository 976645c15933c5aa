/** What the daemon did in an interval: the difference of two of its figures, as rates. */

import { countOf, quantileMs, since } from '../base/histogram.ts';
import type { TierFigures } from '../cache/metered.ts';
import type { Figures, MountFigures } from '../daemon/protocol.ts';
import type { StoreOutage } from '../daemon/stores.ts';

export interface TierRates {
  tier: string;
  /** Answered, or not for a fault of the tier's. */
  getsPerSecond: number;
  /** 0 to 1, of those; null without any. */
  hitShare: number | null;
  hitBytesPerSecond: number;
  faultsPerSecond: number;
  shedPerSecond: number;
  /** Of hits; null without any. */
  hitMsP50: number | null;
  hitMsP99: number | null;
  inFlight: number;
}

export interface MountRates {
  id: string;
  name: string;
  dir: string;
  readsPerSecond: number;
  bytesPerSecond: number;
  errorsPerSecond: number;
  /** Null without any. */
  readMsP99: number | null;
  readsInFlight: number;
}

/** A node of the fleet that did not do all that it should. */
export interface NodeTrouble {
  node: string;
  breaker: 'closed' | 'half-open' | 'open';
  failedPerSecond: number;
  wrongPerSecond: number;
  refusedPerSecond: number;
}

export interface Rates {
  intervalSeconds: number;
  /** Chunks that reads looked for, and those of them that were in memory. */
  lookupsPerSecond: number;
  memoryShare: number | null;
  tiers: TierRates[];
  mounts: MountRates[];
  nodes: NodeTrouble[];
  /** Stores that do not answer. */
  outages: OutageNow[];
}

export interface OutageNow extends StoreOutage {
  location: string;
  waiting: number;
}

/** Both are of one daemon. What is there only now counts from nothing. */
export function ratesOf(newer: Figures, older: Figures, intervalSeconds: number): Rates {
  const before = new Map(older.mounts.map(mount => [mount.id, mount]));
  const lookups = newer.mounts.map(mount => lookupsOf(mount, before.get(mount.id)));
  const all = sum(lookups.map(({ all }) => all));
  const tiersBefore = new Map(older.tiers.map(tier => [tier.tier, tier]));
  return {
    intervalSeconds,
    lookupsPerSecond: all / intervalSeconds,
    memoryShare: shareOf(sum(lookups.map(({ memory }) => memory)), all),
    tiers: newer.tiers.map(tier => tierRates(tier, tiersBefore.get(tier.tier), intervalSeconds)),
    mounts: newer.mounts.map(mount => mountRates(mount, before.get(mount.id), intervalSeconds)),
    nodes: troubles(newer, older, intervalSeconds),
    outages: newer.stores.flatMap(({ location, waiting, outage }) =>
      outage === null ? [] : [{ location, waiting, ...outage }],
    ),
  };
}

function tierRates(
  newer: TierFigures,
  older: TierFigures | undefined,
  intervalSeconds: number,
): TierRates {
  const hits = since(newer.gets.hit, older?.gets.hit);
  const countSince = (outcome: 'miss' | 'fault' | 'shed') =>
    countOf(since(newer.gets[outcome], older?.gets[outcome]));
  const faults = countSince('fault');
  const gets = countOf(hits) + countSince('miss') + faults;
  return {
    tier: newer.tier,
    getsPerSecond: gets / intervalSeconds,
    hitShare: shareOf(countOf(hits), gets),
    hitBytesPerSecond: (newer.hitBytes - (older?.hitBytes ?? 0)) / intervalSeconds,
    faultsPerSecond: faults / intervalSeconds,
    shedPerSecond: countSince('shed') / intervalSeconds,
    hitMsP50: quantileMs(hits, 0.5) ?? null,
    hitMsP99: quantileMs(hits, 0.99) ?? null,
    inFlight: newer.inFlight,
  };
}

function mountRates(
  newer: MountFigures,
  older: MountFigures | undefined,
  intervalSeconds: number,
): MountRates {
  const { id, name, dir } = newer;
  return {
    id,
    name,
    dir,
    readsPerSecond: (newer.reads - (older?.reads ?? 0)) / intervalSeconds,
    bytesPerSecond: (newer.bytesRead - (older?.bytesRead ?? 0)) / intervalSeconds,
    errorsPerSecond: (newer.readErrors - (older?.readErrors ?? 0)) / intervalSeconds,
    readMsP99: quantileMs(since(newer.readTimes, older?.readTimes), 0.99) ?? null,
    readsInFlight: newer.reads - countOf(newer.readTimes),
  };
}

function lookupsOf(newer: MountFigures, older: MountFigures | undefined) {
  const of = (tier: string) => (newer.hits[tier] ?? 0) - (older?.hits[tier] ?? 0);
  return { all: sum(Object.keys(newer.hits).map(of)), memory: of('memory') };
}

function troubles(newer: Figures, older: Figures, intervalSeconds: number): NodeTrouble[] {
  const before = new Map(older.fleet?.nodes.map(node => [node.name, node]));
  const found = (newer.fleet?.nodes ?? []).map(node => {
    const was = before.get(node.name);
    const wrong = sum(Object.values(node.wrong)) - sum(Object.values(was?.wrong ?? {}));
    return {
      node: node.name,
      breaker: node.breaker,
      failedPerSecond: (node.failed - (was?.failed ?? 0)) / intervalSeconds,
      wrongPerSecond: wrong / intervalSeconds,
      refusedPerSecond: (node.refused - (was?.refused ?? 0)) / intervalSeconds,
    };
  });
  return found.filter(
    ({ breaker, failedPerSecond, wrongPerSecond, refusedPerSecond }) =>
      breaker !== 'closed' || failedPerSecond + wrongPerSecond + refusedPerSecond > 0,
  );
}

function shareOf(part: number, whole: number): number | null {
  return whole === 0 ? null : part / whole;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
