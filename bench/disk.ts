/**
 * The raw disk of a mounted image as the kernel reads it through the daemon: its chunks decoded in
 * memory, or only in the worker's cache on the disk. Every sequential read is of a mount of its own,
 * as the kernel keeps pages of the last one.
 */

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { MiB } from '../src/base/limits.ts';
import {
  type Context,
  processCpuMs,
  type Row,
  row,
  type Sample,
  type Workload,
} from './harness.ts';
import { BenchHome, dropPages } from './home.ts';
import { imageSource, python, shell } from './images.ts';

const run = promisify(execFile);

export const workload: Workload = {
  name: 'disk',
  summary: "read a mounted image's disk: chunks in memory, chunks in the worker's cache",

  async run(context) {
    await using home = new BenchHome();
    home.configure({ memoryCacheMaxBytes: 1024 * MiB });
    const program = context.small ? shell : python;
    await home.push(await imageSource(program, home, context), 'hello');
    const disk = new MountedDisk(home);
    await disk.readAll();
    const rows = await benchMemory(disk, context);
    rows.push(...(await benchCache(disk, home, context)));
    return {
      rows,
      commands: [
        'imgstore mount --as disk hello DIR',
        'dd if=DIR/disk of=/dev/null bs=1M',
        'fio --rw=randread --bs=4k --direct=1 --ioengine=psync --filename=DIR/disk',
      ],
      notes: ["CPU is the daemon's, of all its threads."],
    };
  },
};

class MountedDisk {
  readonly #home: BenchHome;
  readonly #dir: string;

  constructor(home: BenchHome) {
    this.#home = home;
    this.#dir = home.makeFolder('mounted');
  }

  /** All of the disk, once, on a mount that is new to the kernel. */
  readAll(): Promise<Sample> {
    return this.#with(async path => {
      const args = [`if=${path}`, 'of=/dev/null', 'bs=1M'];
      const { stderr } = await run('dd', args, { env: { ...process.env, LC_ALL: 'C' } });
      const [, bytes, seconds] = /^([0-9]+) bytes .* copied, ([0-9.e-]+) s/m.exec(stderr) ?? [];
      return Number(bytes) / 1e6 / Number(seconds);
    });
  }

  /** The time of one read of 4 KiB past the page cache, at the median and at nine of ten. */
  async readRandomly(reads: number): Promise<{ p50: number; p90: number; cpuMs: number }> {
    let p90 = 0;
    const { value, cpuMs = 0 } = await this.#with(async path => {
      const { stdout } = await run('fio', [
        ...['--name=x', '--rw=randread', '--bs=4k', '--direct=1', '--ioengine=psync'],
        ...[`--number_ios=${reads}`, `--filename=${path}`, '--readonly', '--output-format=json'],
      ]);
      const job = JSON.parse(stdout).jobs[0] as {
        read: { clat_ns: { percentile: Record<string, number> } };
      };
      const at = job.read.clat_ns.percentile;
      p90 = at['90.000000']! / 1000;
      return at['50.000000']! / 1000;
    });
    return { p50: value, p90, cpuMs };
  }

  async #with(work: (path: string) => Promise<number>): Promise<Sample> {
    await this.#home.mount('hello', this.#dir, 'disk');
    try {
      const pid = await this.#home.daemonPid();
      const before = processCpuMs(pid);
      const value = await work(join(this.#dir, 'disk'));
      return { value, cpuMs: processCpuMs(pid) - before };
    } finally {
      await this.#home.unmount(this.#dir);
    }
  }
}

async function benchMemory(disk: MountedDisk, { small, report }: Context): Promise<Row[]> {
  report('disk: chunks in memory');
  const sequential: Sample[] = [];
  for (let round = 0; round < (small ? 1 : 7); round++) sequential.push(await disk.readAll());
  const reads = small ? 2000 : 20_000;
  const random = await disk.readRandomly(reads);
  return [
    row('in memory: sequential', 'MB/s', sequential, { target: { atLeast: 2000 } }),
    { what: 'in memory: 4 KiB at random', unit: 'µs', n: reads, ...random, target: { atMost: 80 } },
  ];
}

async function benchCache(
  disk: MountedDisk,
  home: BenchHome,
  { small, report }: Context,
): Promise<Row[]> {
  report("disk: chunks in the worker's cache");
  const samples: { dropped: Sample[]; kept: Sample[] } = { dropped: [], kept: [] };
  for (let round = 0; round < (small ? 1 : 5); round++) {
    await home.freshDaemon();
    await dropPages(home.cacheFolder);
    samples.dropped.push(await disk.readAll());
    await home.freshDaemon();
    samples.kept.push(await disk.readAll());
  }
  return [
    row('in the cache: sequential', 'MB/s', samples.dropped, { target: { atLeast: 350 } }),
    row("  the cache's files in memory", 'MB/s', samples.kept),
  ];
}
