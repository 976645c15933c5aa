/**
 * The first run of a program on a worker that has nothing of its image: how long, how many bytes of
 * how many, in how many requests; and the run after it.
 */

import type { MountInfo } from '../src/daemon/protocol.ts';
import {
  type Context,
  measured,
  type Row,
  ratioOf,
  row,
  type Sample,
  type Workload,
} from './harness.ts';
import { BenchHome, dropPages } from './home.ts';
import { imageSource, nginx, type Program, python, shell } from './images.ts';

export const workload: Workload = {
  name: 'start',
  summary: 'the first run of an image from an empty cache: time, bytes, requests',

  async run(context) {
    const programs = context.small ? [shell] : [python, nginx];
    const rows: Row[] = [];
    for (const program of programs) rows.push(...(await benchProgram(program, context)));
    return {
      rows,
      commands: programs.map(({ image, args }) => `imgstore run ${image} -- ${args.join(' ')}`),
      notes: ["First runs read the store's files from the disk, not from the page cache."],
    };
  },
};

async function benchProgram(program: Program, context: Context): Promise<Row[]> {
  const { small, report } = context;
  await using home = new BenchHome();
  const pushed = await home.push(await imageSource(program, home, context), program.image);
  report(`start: ${program.image}`);
  const run = async (): Promise<Sample> => {
    const { wallMs, cpuMs } = await home.measure(['run', program.image, '--', ...program.args]);
    return { value: wallMs, cpuMs };
  };
  const [first, second]: [Sample[], Sample[]] = [[], []];
  for (let round = 0; round < (small ? 1 : 5); round++) {
    await home.coldDaemon();
    await dropPages(home.storeFolder);
    first.push(await run());
    second.push(await run());
  }
  const cost = await fetched(home, program);
  const { image } = program;
  const bytes = (what: string, value: number) => row(`  ${what}`, 'MB', [{ value: value / 1e6 }]);
  return [
    row(`${image}: first run`, 'ms', first, { ratio: ratioOf(first, second, 'next run') }),
    row(`${image}: next run`, 'ms', second),
    {
      ...bytes('fetched', cost.storedBytesFetched),
      ratio: { value: cost.storedBytesFetched / cost.storedBytes, to: 'stored' },
    },
    bytes('stored', cost.storedBytes),
    bytes('disk', cost.diskBytes),
    bytes('content', pushed.contentBytes),
    row('  requests to the store', 'count', [{ value: cost.chunksFetched }]),
    row('  reads by the kernel', 'count', [{ value: cost.reads }]),
  ];
}

/** What the program alone fetches, from an empty cache. */
async function fetched(home: BenchHome, { image, command }: Program): Promise<MountInfo> {
  await home.coldDaemon();
  const dir = home.makeFolder('mounted');
  await home.mount(image, dir);
  await measured(['chroot', dir, ...command]);
  const info = await home.mounted(dir);
  await home.unmount(dir);
  return info;
}
