/**
 * The tiers of a read under the load of a fleet: real memcached processes, and a store that is
 * far away. docs/BENCHMARKS.md says what each row means.
 */

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { MiB } from '../../src/base/limits.ts';
import { benchErasure } from '../erasure.ts';
import type { Context, Row, Workload } from '../harness.ts';
import { benchColdFleet } from './cold-fleet.ts';
import { writeImages } from './images.ts';
import { Machines } from './machines.ts';
import { benchOutage } from './outage.ts';
import type { ReadsMessage } from './reads.ts';
import { Workers } from './workers.ts';

export const workload: Workload = {
  name: 'workload',
  summary: 'the tiers under load: hits, nodes in trouble, a cold fleet, a store that is gone',

  async run(context) {
    return {
      rows: [
        ...(await benchReads(context)),
        ...(await benchErasure(context, [[4, 1]])),
        ...(await benchWorkers(context)),
      ],
      commands: [
        'node bench/main.ts workload',
        'imgstore mount image-0 DIR && cat DIR/lib/read-0 …',
      ],
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
  const [status] = (await once(child, 'close')) as [number | null];
  if (status !== 0 || rows === undefined) throw new Error('bench/workload/reads.ts failed');
  return rows;
}

async function benchWorkers(context: Context): Promise<Row[]> {
  const { small, report } = context;
  report('workload: images for workers');
  await using machines = await Machines.start({ memoryMiB: 64 });
  const images = (dir: string) => writeImages(dir, small ? 4 : 10, (small ? 0.25 : 3) * MiB);
  await using workers = await Workers.open(small ? 2 : 5, machines, images);
  return [
    ...(await benchColdFleet(workers, machines, context)),
    ...(await benchOutage(workers, machines, context)),
  ];
}
