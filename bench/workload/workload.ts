/**
 * The tiers of a read under the load of a fleet: real memcached processes, and a store that is
 * far away. docs/BENCHMARKS.md says what each row means.
 */

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { benchErasure } from '../erasure.ts';
import type { Context, Row, Workload } from '../harness.ts';
import type { ReadsMessage } from './reads.ts';

export const workload: Workload = {
  name: 'workload',
  summary: 'the tiers under load: hits, nodes in trouble, a cold fleet, a store that is gone',

  async run(context) {
    return {
      rows: [...(await benchReads(context)), ...(await benchErasure(context, [[4, 1]]))],
      commands: ['node bench/main.ts workload'],
    };
  },
};

async function benchReads({ small, report }: Context): Promise<Row[]> {
  const child = fork(join(import.meta.dirname, 'reads.ts'), small ? ['--small'] : []);
  let rows: Row[] | undefined;
  child.on('message', (message: ReadsMessage) => {
    if ('step' in message) report(message.step);
    else rows = message.rows;
  });
  await once(child, 'close');
  if (rows === undefined) throw new Error('bench/workload/reads.ts failed');
  return rows;
}
