/** Figures as text: columns in line, and how something went over time as one line of bars. */

const bars = '▁▂▃▄▅▆▇█';

/** The first column is words, the others are figures. */
export function table(lines: readonly (readonly string[])[]): string[] {
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map(line => line[column]!.length)));
  return lines.map(line =>
    line
      .map((cell, at) => (at === 0 ? cell.padEnd(widths[at]!) : cell.padStart(widths[at]!)))
      .join('  ')
      .trimEnd(),
  );
}

/** One bar a value, the highest for the greatest. */
export function sparkline(values: readonly number[]): string {
  const most = Math.max(...values);
  return values
    .map(value => bars[Math.min(bars.length - 1, Math.floor((value / most) * bars.length))]!)
    .join('');
}

/** Of a share: as many digits as the paper's 67, 32 and 0.06. */
export function percent(share: number): string {
  const value = 100 * share;
  if (value >= 10) return value.toFixed(1);
  return value >= 1 ? value.toFixed(2) : value.toFixed(3);
}

export function times(factor: number): string {
  return factor >= 10 ? factor.toFixed(0) : factor.toFixed(1);
}

export function rate(perSecond: number): string {
  if (perSecond >= 100) return perSecond.toFixed(0);
  return perSecond >= 10 ? perSecond.toFixed(1) : perSecond.toFixed(2);
}
