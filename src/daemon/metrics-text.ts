/**
 * Prometheus' text format, version 0.0.4: each metric's HELP and TYPE once, its samples behind them.
 * https://prometheus.io/docs/instrumenting/exposition_formats/
 */

import { bucketBoundsMs, type HistogramFigures } from '../base/histogram.ts';

export type Labels = Readonly<Record<string, string>>;
export type Sample<V = number> = readonly [labels: Labels, value: V];

/** Prometheus' unit of time is the second. */
const upperBounds = [...bucketBoundsMs.map(boundMs => String(boundMs / 1000)), '+Inf'];
const bucketLabels = upperBounds.map(bound => `le="${bound}"`);

export class MetricsText {
  readonly #lines: string[] = [];

  gauge(name: string, help: string, value: number): void {
    this.gauges(name, help, [[{}, value]]);
  }

  gauges(name: string, help: string, samples: Iterable<Sample>): void {
    this.#family(name, 'gauge', help, samples);
  }

  /** The name ends with `_total`. */
  counter(name: string, help: string, value: number): void {
    this.counters(name, help, [[{}, value]]);
  }

  counters(name: string, help: string, samples: Iterable<Sample>): void {
    this.#family(name, 'counter', help, samples);
  }

  /** The name ends with `_seconds`. */
  histograms(name: string, help: string, samples: Iterable<Sample<HistogramFigures>>): void {
    this.#head(name, 'histogram', help);
    for (const [labels, { counts, sumMs }] of samples) {
      // A bucket at a time from their labels would take three times as long.
      const text = labelText(labels);
      const start = text === '' ? `${name}_bucket{` : `${name}_bucket{${text},`;
      let cumulative = 0;
      for (const [bucket, le] of bucketLabels.entries()) {
        cumulative += counts[bucket]!;
        this.#lines.push(`${start}${le}} ${cumulative}`);
      }
      this.#sample(`${name}_sum`, text, sumMs / 1000);
      this.#sample(`${name}_count`, text, cumulative);
    }
  }

  toString(): string {
    return `${this.#lines.join('\n')}\n`;
  }

  #family(name: string, type: string, help: string, samples: Iterable<Sample>): void {
    this.#head(name, type, help);
    for (const [labels, value] of samples) this.#sample(name, labelText(labels), value);
  }

  #head(name: string, type: string, help: string): void {
    this.#lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
  }

  #sample(name: string, labels: string, value: number): void {
    this.#lines.push(labels === '' ? `${name} ${value}` : `${name}{${labels}} ${value}`);
  }
}

function labelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escapeLabel(text)}"`);
  return pairs.join();
}

function escapeLabel(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
