/** Rates of the daemon for people: a picture of 80 columns for terminals, or one line. */

import type { Figures } from '../daemon/protocol.ts';
import { formatBytes, formatCount } from './format.ts';
import type { MountRates, NodeTrouble, OutageNow, Rates, TierRates } from './watch-rates.ts';

/** As many lines as there is room for: mounts that do most come first, the rest is left out. */
export function picture(figures: Figures, rates: Rates, linesMax: number): string[] {
  const { status, diskCache, fleet } = figures;
  const upSeconds = `up ${formatDuration(status.uptimeSeconds)}`;
  const mounts = formatCount(status.mounts, 'mount');
  const memory = `${formatBytes(status.memoryBytes)} of memory`;
  const scanning = diskCache.scanning ? ', still looking up what it holds' : '';
  const failing = diskCache.failing ? ', KEEPS NOTHING NEW: see the log' : '';
  const lines = [
    `daemon ${status.pid}  ${upSeconds}, ${mounts}, ${memory}`,
    `disk cache  ${formatBytes(diskCache.bytes)} of ${formatBytes(diskCache.sizeMaxBytes)}, ${formatCount(diskCache.entries, 'chunk')}${scanning}${failing}`,
    ...(fleet === null ? [] : [fleetLine(fleet.nodes.length, rates.nodes)]),
    ...rates.outages.map(outageWords),
    '',
    ...tierTable(rates),
  ];
  if (rates.mounts.length === 0) return lines.slice(0, linesMax);
  return [...lines, '', ...mountTable(rates.mounts, linesMax - lines.length - 1)].slice(
    0,
    linesMax,
  );
}

/** For logs and pipes. */
export function oneLine(rates: Rates): string {
  const reads = rates.mounts.reduce((sum, mount) => sum + mount.readsPerSecond, 0);
  const errors = rates.mounts.reduce((sum, mount) => sum + mount.errorsPerSecond, 0);
  const failing = errors === 0 ? '' : `, ${formatRate(errors)} failed`;
  return [
    `${formatCount(rates.mounts.length, 'mount')} ${formatRate(reads)} reads/s${failing}`,
    `memory ${formatRate(rates.lookupsPerSecond)}/s ${percent(rates.memoryShare)}`,
    ...rates.tiers.map(tierWords),
    ...(rates.nodes.length === 0 ? [] : [rates.nodes.map(nodeWords).join(', ')]),
    ...rates.outages.map(outageWords),
  ].join(' | ');
}

function tierWords(tier: TierRates): string {
  const faults = tier.faultsPerSecond === 0 ? '' : ` ${formatRate(tier.faultsPerSecond)} faults/s`;
  const gets = `${tier.tier} ${formatRate(tier.getsPerSecond)}/s ${percent(tier.hitShare)}`;
  if (tier.hitMsP50 === null) return gets + faults;
  const bytes = `${formatBytes(Math.round(tier.hitBytesPerSecond))}/s`;
  return `${gets} ${bytes} ${formatMs(tier.hitMsP50)}/${formatMs(tier.hitMsP99)}${faults}`;
}

function tierTable({ lookupsPerSecond, memoryShare, tiers }: Rates): string[] {
  const header = ['TIER', 'GETS/S', 'HIT %', 'BYTES/S', 'P50', 'P99', 'FAULTS/S', 'NOW'];
  const rows = tiers.map(tier => [
    tier.tier,
    formatRate(tier.getsPerSecond),
    percent(tier.hitShare),
    formatBytes(Math.round(tier.hitBytesPerSecond)),
    formatMs(tier.hitMsP50),
    formatMs(tier.hitMsP99),
    formatRate(tier.faultsPerSecond),
    String(tier.inFlight),
  ]);
  const memory = [
    'memory',
    formatRate(lookupsPerSecond),
    percent(memoryShare),
    ...Array(5).fill(''),
  ];
  return alignRight([header, memory, ...rows], [6, 6, 7, 10, 7, 7, 8, 4]);
}

function mountTable(mounts: readonly MountRates[], linesMax: number): string[] {
  const rowsMax = Math.max(0, linesMax - 1);
  const hidden = mounts.length > rowsMax ? mounts.length - Math.max(0, rowsMax - 1) : 0;
  const busiest = mounts.toSorted((a, b) => b.bytesPerSecond - a.bytesPerSecond);
  const shown = busiest.slice(0, mounts.length - hidden);
  const header = ['MOUNT', 'READS/S', 'BYTES/S', 'P99', 'ERRORS/S', 'NOW'];
  const rows = shown.map(mount => [
    mount.id,
    formatRate(mount.readsPerSecond),
    formatBytes(Math.round(mount.bytesPerSecond)),
    formatMs(mount.readMsP99),
    formatRate(mount.errorsPerSecond),
    String(mount.readsInFlight),
  ]);
  const lines = alignRight([header, ...rows], [6, 6, 10, 7, 8, 4]);
  const named = lines.map((line, i) => `${line}  ${i === 0 ? 'IMAGE' : shown[i - 1]!.name}`);
  return hidden === 0 ? named : [...named, `and ${hidden} more`];
}

function fleetLine(count: number, troubles: readonly NodeTrouble[]): string {
  const nodes = `shared cache  ${count - troubles.length} of ${count} nodes are well`;
  return troubles.length === 0 ? nodes : `${nodes}: ${troubles.map(nodeWords).join(', ')}`;
}

function nodeWords(trouble: NodeTrouble): string {
  const words = [
    trouble.breaker === 'closed' ? '' : trouble.breaker,
    amount(trouble.failedPerSecond, 'failed/s'),
    amount(trouble.wrongPerSecond, 'wrong/s'),
    amount(trouble.refusedPerSecond, 'refused/s'),
  ];
  return `${trouble.node} ${words.filter(word => word !== '').join(' ')}`;
}

function outageWords({ seconds, waiting, isRecovering, reason, location }: OutageNow): string {
  const state = isRecovering ? 'STORE RECOVERS after' : 'STORE OUT for';
  return `${state} ${formatDuration(seconds)}, ${formatCount(waiting, 'read')} waiting: ${location}: ${reason}`;
}

function amount(rate: number, unit: string): string {
  return rate === 0 ? '' : `${formatRate(rate)} ${unit}`;
}

/** The first column to the left, the others to the right; wide enough to stand still. */
function alignRight(rows: readonly (readonly string[])[], widthsMin: readonly number[]): string[] {
  const widths = widthsMin.map((width, column) =>
    Math.max(width, ...rows.map(row => row[column]!.length)),
  );
  return rows.map(row =>
    row
      .map((cell, column) =>
        column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!),
      )
      .join('  ')
      .trimEnd(),
  );
}

function formatRate(rate: number): string {
  return rate > 0 && rate < 10 ? rate.toFixed(1) : String(Math.round(rate));
}

function percent(share: number | null): string {
  return share === null ? '-' : `${(100 * share).toFixed(1)} %`;
}

function formatMs(durationMs: number | null): string {
  if (durationMs === null) return '-';
  if (durationMs < 10) return `${durationMs.toFixed(2)} ms`;
  return durationMs < 1000 ? `${Math.round(durationMs)} ms` : `${(durationMs / 1000).toFixed(1)} s`;
}

function formatDuration(seconds: number): string {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 48 * 3600) {
    return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  }
  return `${Math.floor(seconds / 86_400)} days`;
}
