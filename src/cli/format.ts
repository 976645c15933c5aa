/** How sizes, shares and tables are written for people. */

import { GiB, KiB, MiB, TiB } from '../base/limits.ts';

export function formatBytes(sizeBytes: number): string {
  if (sizeBytes < KiB) return `${sizeBytes} B`;
  if (sizeBytes < MiB) return `${(sizeBytes / KiB).toFixed(1)} KiB`;
  if (sizeBytes < GiB) return `${(sizeBytes / MiB).toFixed(1)} MiB`;
  if (sizeBytes < TiB) return `${(sizeBytes / GiB).toFixed(2)} GiB`;
  return `${(sizeBytes / TiB).toFixed(2)} TiB`;
}

/** `1 chunk`, `2 chunks`. */
export function formatCount(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

export function formatShare(part: number, whole: number): string {
  return whole === 0 ? '0 %' : `${((100 * part) / whole).toFixed(1)} %`;
}

/** Columns wide enough for their longest cell; numbers should come formatted. */
export function formatTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  const widths = header.map((title, column) =>
    Math.max(title.length, ...rows.map(row => row[column]!.length)),
  );
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd();
  return [header, ...rows].map(line).join('\n');
}

/** `key: value` lines, keys padded. */
export function formatFields(fields: readonly (readonly [string, string])[]): string {
  const width = Math.max(...fields.map(([key]) => key.length)) + 1;
  return fields.map(([key, value]) => `${`${key}:`.padEnd(width)} ${value}`).join('\n');
}
