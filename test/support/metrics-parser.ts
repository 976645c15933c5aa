/**
 * Reads Prometheus' text format as its definition has it, and holds what it demands: HELP and TYPE
 * before the samples of a metric, all of those together, each sample once, a final line end; of
 * histograms that buckets are cumulative and end with +Inf, which is the count.
 */

import assert from 'node:assert/strict';

export interface MetricSample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

const labelPattern = /([a-z]+)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)/g;

export function parseMetrics(text: string): MetricSample[] {
  assert.ok(text.endsWith('\n'));
  const samples: MetricSample[] = [];
  const types = new Map<string, string>();
  const seen = new Set<string>();
  let helped: string | undefined;
  for (const line of text.slice(0, -1).split('\n')) {
    const comment = /^# (HELP|TYPE) ([a-z0-9_]+) (.+)$/.exec(line);
    if (comment !== null) {
      const [, kind, name, rest] = comment;
      if (kind === 'HELP') helped = name;
      else {
        assert.equal(helped, name, 'HELP stands before TYPE');
        assert.ok(!types.has(name!), `one TYPE for ${name}`);
        assert.match(rest!, /^(counter|gauge|histogram)$/);
        types.set(name!, rest!);
      }
      continue;
    }
    const sample = readSample(line);
    const family = [...types.keys()].at(-1)!;
    assertBelongs(sample.name, family, types.get(family)!);
    const key = JSON.stringify([sample.name, Object.entries(sample.labels).sort()]);
    assert.ok(!seen.has(key), `once: ${line}`);
    seen.add(key);
    samples.push(sample);
  }
  for (const [name, type] of types) {
    if (type === 'histogram') checkHistogram(samples, name);
  }
  return samples;
}

function readSample(line: string): MetricSample {
  const found = /^([a-z0-9_]+)(?:\{(.*)\})? (-?[0-9.e+-]+)$/.exec(line);
  assert.ok(found !== null, `a sample: ${line}`);
  const [, name, labelText = '', value] = found;
  const labels: Record<string, string> = {};
  const rest = labelText.replace(labelPattern, (_, label: string, escaped: string) => {
    assert.ok(!(label in labels), `each label once: ${line}`);
    labels[label] = escaped.replace(/\\(.)/g, (_, c: string) => (c === 'n' ? '\n' : c));
    return '';
  });
  assert.equal(rest, '', `labels: ${labelText}`);
  assert.ok(Number.isFinite(Number(value)), `a number: ${line}`);
  return { name: name!, labels, value: Number(value) };
}

function assertBelongs(name: string, family: string, type: string): void {
  if (type === 'histogram') {
    assert.match(name, new RegExp(`^${family}_(bucket|sum|count)$`));
    assert.ok(family.endsWith('_seconds'));
    return;
  }
  assert.equal(name, family, 'samples follow their TYPE');
  assert.equal(type === 'counter', name.endsWith('_total'));
}

function checkHistogram(samples: readonly MetricSample[], name: string): void {
  const series = Map.groupBy(
    samples.filter(sample => sample.name.startsWith(`${name}_`)),
    ({ labels: { le: _, ...labels } }) => JSON.stringify(labels),
  );
  for (const [labels, members] of series) {
    const of = (suffix: string) => members.filter(sample => sample.name === `${name}_${suffix}`);
    const buckets = of('bucket');
    assert.equal(of('sum').length, 1);
    assert.equal(of('count').length, 1);
    assert.equal(buckets.at(-1)?.labels['le'], '+Inf', labels);
    assert.equal(buckets.at(-1)?.value, of('count')[0]!.value);
    for (const [i, { labels, value }] of buckets.entries()) {
      if (i === 0) continue;
      const before = buckets[i - 1]!;
      const bound = labels['le'] === '+Inf' ? Infinity : Number(labels['le']);
      assert.ok(bound > Number(before.labels['le']), 'bounds rise');
      assert.ok(value >= before.value, 'buckets are cumulative');
    }
  }
}
