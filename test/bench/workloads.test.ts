/** Every workload runs, small, and says something that can be true. */

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { isGain, type Result, type Row } from '../../bench/harness.ts';
import { median, quantile } from '../../bench/numbers.ts';
import { describeResult, isMet } from '../../bench/report.ts';
import { runChecked, runCommand } from '../support/processes.ts';

const main = join(import.meta.dirname, '..', '..', 'bench', 'main.ts');

const workloads = [
  'push',
  'disk',
  'mount',
  'exec',
  'start',
  's3',
  'domains',
  'sizes',
  'erasure',
  'l1',
  'simulate',
  'workload',
  'sparse-file',
  'seal',
];

async function runSmall(name: string): Promise<Result> {
  const args = [main, name, '--small', '--json'];
  const { stdout } = await runChecked(process.execPath, args);
  const { results, small } = JSON.parse(stdout) as { results: Result[]; small: boolean };
  assert.equal(small, true);
  assert.deepEqual(
    results.map(({ workload }) => workload),
    [name],
  );
  return results[0]!;
}

function rowOf({ rows }: Result, what: string): Row {
  const found = rows.find(row => row.what.trim() === what);
  assert.ok(found, `there is a row "${what}"`);
  return found;
}

/** Other programs disturb it less than time on the clock. */
function cpuOf(result: Result, what: string): number {
  return rowOf(result, what).cpuMs!;
}

/** What is good if it never happens, and what nothing changes. */
function canBeNone({ unit, target }: Row): boolean {
  return unit === 'points' || (target !== undefined && 'atMost' in target && target.atMost === 0);
}

for (const name of workloads) {
  test(`${name} runs, and its figures can be true`, async () => {
    const result = await runSmall(name);
    assert.ok(result.commands.length > 0);
    assert.ok(result.rows.length + result.notes.length > 0);
    for (const row of result.rows) {
      assert.ok(row.n >= 1 && Number.isFinite(row.p50) && Number.isFinite(row.p90), row.what);
      assert.ok(row.p50 > 0 || canBeNone(row), row.what);
      assert.ok(isGain(row) ? row.p90 <= row.p50 : row.p90 >= row.p50, row.what);
    }
    checks[name]?.(result);
    assert.match(describeResult(result), new RegExp(`^${name}: load average`));
  });
}

const checks: Record<string, (result: Result) => void> = {
  push(result) {
    assert.ok(cpuOf(result, 'unchanged') < cpuOf(result, 'all new'));
    for (const row of result.rows.filter(({ unit }) => unit === 'MiB')) {
      assert.ok(row.p50 > 30, 'no Node is that small');
      assert.equal(isMet(row), true, row.what);
    }
  },
  mount(result) {
    assert.ok(rowOf(result, 'in the daemon').p50 < rowOf(result, 'mount').p50);
    assert.ok(cpuOf(result, 'node -e 0') < cpuOf(result, 'mount'));
  },
  domains(result) {
    const one = rowOf(result, 'one domain').p50;
    const nextEpoch = rowOf(result, 'one domain, next epoch').p50;
    assert.ok(one < nextEpoch && nextEpoch < rowOf(result, 'a domain an image').p50);
  },
  erasure(result) {
    assert.ok(rowOf(result, '16 + 4, encode').p50 < rowOf(result, '4 + 1, encode').p50);
    const [few, many] = ['5 of 5 nodes for a chunk', '5 of 500 nodes for a chunk'];
    assert.ok(rowOf(result, few).p50 < rowOf(result, many).p50);
  },
  workload(result) {
    for (const never of ['reads without an answer', 'answers with wrong bytes']) {
      const rows = result.rows.filter(({ what }) => what.trim() === never);
      assert.ok(rows.length > 0);
      for (const row of rows) assert.equal(row.p50, 0, never);
    }
  },
  l1(result) {
    const rate = (policy: string) => rowOf(result, `${policy}, byte hit rate`).p50;
    // Of many traces and sizes, and the same on every machine.
    assert.ok(rate('LRU') + 5 < rate('imgstore') && rate('SLRU') < rate('imgstore'));
    assert.ok(rate('imgstore') < rate('Belady') && rate('Belady') < 100);
    assert.ok(Math.abs(rate('imgstore') - rate('S3-FIFO')) < 1);
  },
  sizes(result) {
    const held = rowOf(result, 'files of 3 and more, in images').p50;
    assert.ok(rowOf(result, 'recognised').p50 > 0 && held > 0);
  },
  start(result) {
    const fetched = rowOf(result, 'fetched').p50;
    assert.ok(fetched <= rowOf(result, 'stored').p50);
    assert.ok(rowOf(result, 'stored').p50 < rowOf(result, 'disk').p50);
  },
  s3(result) {
    for (const what of [
      'requests of it unchanged',
      'uploads for it',
      'round trips to the first read',
    ]) {
      assert.equal(isMet(rowOf(result, what)), true, what);
    }
    assert.ok(rowOf(result, 'requests for it').p50 < rowOf(result, 'requests').p50);
  },
};

test('a workload that there is not is wrong usage', async () => {
  const { exitCode, stderr } = await runCommand(process.execPath, [main, 'nothing']);
  assert.equal(exitCode, 2);
  assert.match(stderr, /there is no workload "nothing"/);
});

test('medians and quantiles', () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  assert.equal(quantile([0, 10], 0.9), 9);
  assert.equal(quantile([5], 0.9), 5);
  assert.throws(() => median([]));
});
