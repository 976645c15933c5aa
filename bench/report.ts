/** Results of workloads as text. */

import { cpus, release } from 'node:os';
import type { Result, Row } from './harness.ts';

const header = ['', 'n', 'p50', 'p90', '', 'CPU', 'ratio', 'target', ''];

export function describeMachine(): string {
  const [first] = cpus();
  return `${cpus().length} × ${first?.model ?? 'CPU'}, Linux ${release()}, Node ${process.version}`;
}

export function describeResult(result: Result): string {
  const { workload, rows, commands, notes, loadBefore, loadAfter } = result;
  const load = `load average ${loadBefore.toFixed(2)} before, ${loadAfter.toFixed(2)} after`;
  const cells = [header, ...rows.map(cellsOf)];
  const widths = header.map((_, column) => Math.max(...cells.map(line => line[column]!.length)));
  const table = cells.map(line =>
    line
      .map((cell, at) =>
        at === 0 || at === 4 ? cell.padEnd(widths[at]!) : cell.padStart(widths[at]!),
      )
      .join('  ')
      .trimEnd(),
  );
  return [
    `${workload}: ${load}`,
    ...(rows.length === 0 ? [] : table),
    ...commands.map(command => `  $ ${command}`),
    ...notes.map(note => `  ${note}`),
    '',
  ].join('\n');
}

export function isMet({ p50, target }: Row): boolean | undefined {
  if (target === undefined) return undefined;
  return 'atLeast' in target ? p50 >= target.atLeast : p50 <= target.atMost;
}

function cellsOf(row: Row): string[] {
  const { what, n, p50, p90, unit, cpuMs, ratio, target } = row;
  const met = isMet(row);
  return [
    what,
    String(n),
    number(p50),
    number(p90),
    unit === 'count' ? '' : unit,
    cpuMs === undefined ? '' : seconds(cpuMs),
    ratio === undefined ? '' : `${ratio.value.toFixed(2)} × ${ratio.to}`,
    target === undefined ? '' : targetText(target),
    met === undefined ? '' : met ? 'met' : 'missed',
  ];
}

function targetText(target: NonNullable<Row['target']>): string {
  return 'atLeast' in target ? `≥ ${number(target.atLeast)}` : `≤ ${number(target.atMost)}`;
}

function seconds(ms: number): string {
  return ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

/** Three digits that count. */
function number(value: number): string {
  if (value >= 100) return value.toFixed(0);
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
