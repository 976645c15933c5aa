import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { bucketBoundsMs, Histogram } from '../../src/base/histogram.ts';
import { silentLog } from '../../src/base/log.ts';
import { FleetSource } from '../../src/cache/fleet/fleet-source.ts';
import { formatMetrics, mountsListedMax } from '../../src/daemon/metrics.ts';
import { MetricsText } from '../../src/daemon/metrics-text.ts';
import type { Figures } from '../../src/daemon/protocol.ts';
import { type MetricSample, parseMetrics } from '../support/metrics-parser.ts';
import { createTestHome, runChecked } from '../support/processes.ts';
import { pushSmallImage } from '../support/small-images.ts';
import { idleFigures, idleMount } from './figures.ts';

/** Whose packages are Debian's; another python3 may be first on the path. */
const debianPython = '/usr/bin/python3';

/** Samples as Prometheus' own client for Python reads them; it fails where it cannot. */
async function judge(text: string): Promise<MetricSample[]> {
  const script = `
import sys, json
from prometheus_client.parser import text_string_to_metric_families as parse
samples = [s for f in parse(sys.stdin.read()) for s in f.samples]
print(json.dumps([{'name': s.name, 'labels': s.labels, 'value': s.value} for s in samples]))
`;
  const { stdout } = await runChecked(debianPython, ['-c', script], { input: text });
  return JSON.parse(stdout) as MetricSample[];
}

async function fleetFigures(): Promise<Figures> {
  const nodes = ['a', 'b "c"'].map((name, index) => ({
    name,
    host: '127.0.0.1',
    port: 1 + index,
    weight: 1,
    domain: name,
  }));
  const fleet = new FleetSource({
    nodes,
    shape: { dataShards: 1, parityShards: 1 },
    log: silentLog,
  });
  const stats = fleet.stats();
  await fleet.close();
  return { ...idleFigures, fleet: stats };
}

test('label values are escaped', async () => {
  const dir = '/a "quoted" \\ back\nslash {x="y"} \u00e9';
  const mount = { ...idleMount, name: 'n:latest', dir, reads: 7, hits: { 'a"b': 2 } };
  const text = formatMetrics({ ...idleFigures, mounts: [mount] });
  for (const samples of [parseMetrics(text), await judge(text)]) {
    const reads = samples.find(({ name }) => name === 'imgstore_mount_reads_total');
    assert.deepEqual(reads, {
      name: 'imgstore_mount_reads_total',
      labels: { mount: 'm1', name: 'n:latest', dir },
      value: 7,
    });
    const hits = samples.find(({ name }) => name === 'imgstore_mount_hits_total');
    assert.equal(hits?.labels['tier'], 'a"b');
  }
});

test('a histogram is in seconds, cumulative, and ends with +Inf', async () => {
  const histogram = new Histogram();
  for (const durationMs of [0.01, 0.05, 3, 3, 250, 1e6]) histogram.observe(durationMs);
  const text = new MetricsText();
  text.histograms('a_seconds', 'Times.', [[{ tier: 'l1' }, histogram.figures()]]);
  for (const samples of [parseMetrics(String(text)), await judge(String(text))]) {
    const bucket = (le: string) =>
      samples.find(({ name, labels }) => name === 'a_seconds_bucket' && labels['le'] === le)?.value;
    assert.equal(bucket('0.00005'), 2);
    assert.equal(bucket('0.002'), 2);
    assert.equal(bucket('0.005'), 4);
    assert.equal(bucket('0.5'), 5);
    assert.equal(bucket('30'), 5);
    assert.equal(bucket('+Inf'), 6);
    assert.equal(samples.find(({ name }) => name === 'a_seconds_count')?.value, 6);
    assert.equal(samples.find(({ name }) => name === 'a_seconds_sum')?.value, 1000.25606);
    assert.equal(samples.length, bucketBoundsMs.length + 3);
  }
});

test('a foreign parser reads the same samples, with a fleet, with mounts and without', async () => {
  const busy = { ...(await fleetFigures()), mounts: [idleMount] };
  for (const figures of [idleFigures, busy]) {
    const text = formatMetrics(figures);
    assert.deepEqual(await judge(text), parseMetrics(text));
  }
  const samples = parseMetrics(formatMetrics(busy));
  const breakers = samples.filter(({ name }) => name === 'imgstore_fleet_node_breaker');
  assert.deepEqual(
    breakers.map(({ labels, value }) => [labels['node'], value]),
    [
      ['a', 0],
      ['b "c"', 0],
    ],
  );
  const kinds = samples.filter(({ name }) => name === 'imgstore_fleet_node_wrong_total');
  assert.equal(kinds.length, 2 * 4);
});

test('however many mounts there are, so many are listed', () => {
  const mounts = Array.from({ length: mountsListedMax + 7 }, (_, i) => ({
    ...idleMount,
    id: `m${i}`,
  }));
  const samples = parseMetrics(formatMetrics({ ...idleFigures, mounts }));
  const reads = samples.filter(({ name }) => name === 'imgstore_mount_reads_total');
  assert.equal(reads.length, mountsListedMax);
  assert.equal(reads[0]?.labels['mount'], 'm0', 'the oldest');
  assert.equal(samples.find(({ name }) => name === 'imgstore_mounts_unlisted')?.value, 7);
});

test("the operator's page lists every metric, and its alarms know no other", async () => {
  const stores = [
    {
      location: 's3://bucket',
      requests: 0,
      waiting: 0,
      prefetchesWaiting: 0,
      outages: 0,
      outage: null,
    },
  ];
  const text = formatMetrics({ ...(await fleetFigures()), stores, mounts: [idleMount] });
  const served = [...text.matchAll(/^# TYPE (\w+) /gm)].map(([, name]) => name!);
  const page = readFileSync(join(import.meta.dirname, '../../docs/operating-caches.md'), 'utf8');
  const [table, alarms] = page.split('## Alarms');
  const namesIn = (part: string) =>
    [...part.matchAll(/imgstore_[a-z0-9_]+/g)].map(([name]) =>
      name.replace(/_seconds_(bucket|sum|count)$/, '_seconds'),
    );
  assert.deepEqual([...new Set(namesIn(table!))].sort(), served.toSorted());
  const known = new Set(served);
  const used = namesIn(/```yaml\n((?:.|\n)*?)```/.exec(alarms!)![1]!);
  assert.ok(used.length > 10);
  for (const name of used) assert.ok(known.has(name), name);
  const explained = (alert: string) =>
    alarms!.includes(`**${alert}`) || alarms!.includes(`${alert}.**`);
  for (const [, alert] of alarms!.matchAll(/alert: (\w+)/g)) assert.ok(explained(alert!), alert);
});

test('the daemon serves them on its socket', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  mkdirSync(home.path('mnt'));
  await home.runChecked(['mount', 'small', 'mnt']);
  readFileSync(home.path('mnt', 'srv', 'noise'));
  const socket = `${home.home}/run/daemon.sock`;
  const args = ['--silent', '--include', '--unix-socket', socket, 'http://daemon/metrics'];
  const [head, body] = (await runChecked('curl', args)).stdout.split('\r\n\r\n');
  assert.match(head!, /content-type: text\/plain; version=0\.0\.4/i);
  const samples = parseMetrics(body!);
  const value = (name: string, labels: Record<string, string> = {}) =>
    samples.find(
      sample =>
        sample.name === name &&
        Object.entries(labels).every(([label, text]) => sample.labels[label] === text),
    )?.value;
  assert.equal(value('imgstore_mounts'), 1);
  assert.ok(value('imgstore_mount_chunks_fetched_total')! >= 2);
  assert.ok(value('imgstore_mount_read_bytes_total')! >= 1_500_000);
  assert.equal(value('imgstore_mount_read_errors_total'), 0);
  assert.ok(value('imgstore_mount_hits_total', { tier: 'store' })! >= 2);
  const gets = 'imgstore_tier_get_seconds_count';
  assert.ok(value(gets, { tier: 'l1', outcome: 'miss' })! >= 2);
  assert.ok(value(gets, { tier: 'store', outcome: 'hit' })! >= 2);
  assert.ok(value('imgstore_tier_hit_bytes_total', { tier: 'store' })! >= 1_400_000);
  assert.equal(value('imgstore_tier_in_flight', { tier: 'store' }), 0);
  assert.ok(value('imgstore_mount_lookup_seconds_count', { tier: 'store' })! >= 1);
  const reads = value('imgstore_mount_reads_total');
  assert.equal(value('imgstore_mount_read_seconds_count'), reads);
  assert.equal(value('imgstore_reads_total'), reads);
  assert.equal(value('imgstore_store_requests', { store: `${home.home}/store` }), 0);

  await home.runChecked(['daemon', 'start']); // it stays
  await home.runChecked(['umount', 'mnt']);
  const after = parseMetrics((await runChecked('curl', args)).stdout.split('\r\n\r\n')[1]!);
  const total = after.find(({ name }) => name === 'imgstore_reads_total');
  assert.ok(total!.value >= reads!, 'what a mount read still counts when it is gone');
  assert.ok(!after.some(({ name }) => name === 'imgstore_mount_reads_total'));
});
