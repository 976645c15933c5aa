/**
 * `node bench/main.ts [WORKLOAD…] [--small] [--json]`: measures imgstore as its users run it.
 * docs/BENCHMARKS.md says what the workloads are and keeps the figures. Needs root.
 */

import { parseArgs } from 'node:util';
import { workload as disk } from './disk.ts';
import { workload as domains } from './domains.ts';
import { workload as erasure } from './erasure.ts';
import { workload as exec } from './exec.ts';
import { loadAverage, type Result, type Workload } from './harness.ts';
import { workload as l1 } from './l1.ts';
import { workload as mount } from './mount.ts';
import { workload as push } from './push.ts';
import { describeMachine, describeResult } from './report.ts';
import { workload as s3 } from './s3.ts';
import { sealWorkload, sparseFileWorkload } from './scripts.ts';
import { workload as simulate } from './simulate/simulate.ts';
import { workload as sizes } from './sizes.ts';
import { workload as start } from './start.ts';
import { workload } from './workload/workload.ts';

const workloads: readonly Workload[] = [
  push,
  disk,
  mount,
  exec,
  start,
  s3,
  domains,
  sizes,
  erasure,
  l1,
  simulate,
  workload,
  sparseFileWorkload,
  sealWorkload,
];

const usage = `Usage: node bench/main.ts [WORKLOAD…] [--small] [--json]

${workloads.map(({ name, summary }) => `  ${name.padEnd(12)} ${summary}`).join('\n')}

  --small      seconds instead of minutes, to see that it works
  --json       the results as JSON on stdout
`;

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: {
      small: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean' },
    },
    allowPositionals: true,
  });
  if (values.help) {
    process.stdout.write(usage);
    return 0;
  }
  const unknown = positionals.find(name => workloads.every(workload => workload.name !== name));
  if (unknown !== undefined) {
    process.stderr.write(`bench: there is no workload "${unknown}"\n\n${usage}`);
    return 2;
  }
  const chosen = workloads.filter(
    ({ name }) => positionals.length === 0 || positionals.includes(name),
  );
  const report = (step: string) => void process.stderr.write(`${step}\n`);
  const results: Result[] = [];
  if (!values.json) process.stdout.write(`${describeMachine()}\n\n`);
  for (const workload of chosen) {
    const loadBefore = loadAverage();
    const outcome = await workload.run({ small: values.small, report });
    const result = {
      notes: [],
      ...outcome,
      workload: workload.name,
      loadBefore,
      loadAfter: loadAverage(),
    };
    results.push(result);
    if (!values.json) process.stdout.write(`${describeResult(result)}\n`);
  }
  if (values.json) {
    const document = { machine: describeMachine(), small: values.small, results };
    process.stdout.write(`${JSON.stringify(document, undefined, 2)}\n`);
  }
  return 0;
}

process.exitCode = await main();
