import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { formatMetrics } from '../../src/daemon/metrics.ts';
import type { DaemonStatus, MountInfo } from '../../src/daemon/protocol.ts';
import { createTestHome, runChecked } from '../support/processes.ts';
import { pushSmallImage } from '../support/small-images.ts';

interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

/**
 * Reads the text format as its definition has it, and holds what it demands: HELP and TYPE before
 * the samples of a metric, all of those together, each label once, a final line end.
 */
function parseMetrics(text: string): Sample[] {
  assert.ok(text.endsWith('\n'));
  const samples: Sample[] = [];
  const types = new Map<string, string>();
  for (const line of text.slice(0, -1).split('\n')) {
    const comment = /^# (HELP|TYPE) ([a-z_]+) (.+)$/.exec(line);
    if (comment !== null) {
      const [, kind, name, rest] = comment;
      if (kind === 'TYPE') {
        assert.ok(!types.has(name!), `one TYPE for ${name}`);
        assert.match(rest!, /^(counter|gauge)$/);
        types.set(name!, rest!);
      }
      continue;
    }
    const sample = /^([a-z_]+)(?:\{(.*)\})? (-?[0-9.e+]+)$/.exec(line);
    assert.ok(sample !== null, `a sample: ${line}`);
    const [, name, labelText = '', value] = sample;
    assert.equal([...types.keys()].at(-1), name, 'samples follow their TYPE');
    assert.equal(types.get(name!) === 'counter', name!.endsWith('_total'));
    const labels: Record<string, string> = {};
    const rest = labelText.replace(
      /([a-z]+)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)/g,
      (_, key, text) => {
        assert.ok(!(key in labels));
        labels[key] = text.replace(/\\(.)/g, (_: string, c: string) => (c === 'n' ? '\n' : c));
        return '';
      },
    );
    assert.equal(rest, '', `labels: ${labelText}`);
    samples.push({ name: name!, labels, value: Number(value) });
  }
  return samples;
}

const status: DaemonStatus = {
  pid: 1,
  mounts: 1,
  uptimeSeconds: 2,
  memoryBytes: 3,
  memoryCacheBytes: 4,
  diskCacheBytes: 5,
};

const mount: MountInfo = {
  id: '',
  name: '',
  dir: '',
  store: '',
  recipe: '',
  folder: '',
  as: 'erofs',
  rw: false,
  via: null,
  configText: null,
  diskBytes: 0,
  storedBytes: 0,
  reads: 0,
  bytesRead: 0,
  readErrors: 0,
  chunks: 0,
  chunksFetched: 0,
  storedBytesFetched: 0,
  hits: {},
  mountMs: 0,
};

test('label values are escaped', () => {
  const dir = '/a "quoted" \\ back\nslash {x="y"}';
  const named = { id: 'm1', name: 'n:latest', dir };
  const samples = parseMetrics(
    formatMetrics(status, [{ ...mount, ...named, reads: 7, hits: { 'a"b': 2 } }]),
  );
  const reads = samples.find(({ name }) => name === 'imgstore_mount_reads_total');
  assert.deepEqual(reads, {
    name: 'imgstore_mount_reads_total',
    labels: { mount: 'm1', name: 'n:latest', dir },
    value: 7,
  });
  const hits = samples.find(({ name }) => name === 'imgstore_mount_hits_total');
  assert.equal(hits?.labels['tier'], 'a"b');
});

test('without mounts there are the totals', () => {
  const samples = parseMetrics(formatMetrics({ ...status, mounts: 0 }, []));
  assert.equal(samples.find(({ name }) => name === 'imgstore_mounts')?.value, 0);
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
  const value = (name: string) => samples.find(sample => sample.name === name)?.value;
  assert.equal(value('imgstore_mounts'), 1);
  assert.ok(value('imgstore_mount_chunks_fetched_total')! >= 2);
  assert.ok(value('imgstore_mount_read_bytes_total')! >= 1_500_000);
  assert.equal(value('imgstore_mount_read_errors_total'), 0);
  const tiers = samples.filter(({ name }) => name === 'imgstore_mount_hits_total');
  assert.ok(tiers.some(({ labels, value }) => labels['tier'] === 'store' && value >= 2));
});
