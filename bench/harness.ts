/**
 * What the workloads share: one command measured, alternatives run in turn, figures as rows.
 *
 * The machine may be busy with other things: alternatives are run interleaved and compared by their
 * medians, processor time stands beside the time on the clock, and each workload's rows carry the
 * load average before and after.
 */

import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import koffi from 'koffi';
import { KiB } from '../src/base/limits.ts';
import { median, quantile } from './numbers.ts';

export interface Measured {
  stdout: string;
  stderr: string;
  wallMs: number;
  /** Of the process and the children that it waited for, user and system. */
  cpuMs: number;
  /** Processor time that the machine spent on anything else meanwhile, of all that it had. */
  othersShare: number;
  /** The most memory the process itself had (VmHWM, looked at every 20 ms). */
  peakBytes: number;
}

/** `points`: the difference of two percentages. */
export type Unit = 'ms' | 'MB/s' | 'µs' | 'MiB' | 'MB' | 'count' | '×' | '%' | 'points';

export interface Row {
  what: string;
  unit: Unit;
  n: number;
  /** The median. */
  p50: number;
  /** What nine of ten runs reach or beat. */
  p90: number;
  /** Processor time of one run, median. */
  cpuMs?: number;
  /** To the row that is named in `to`, of the medians. */
  ratio?: { value: number; to: string };
  target?: { atLeast: number } | { atMost: number };
}

export interface Result {
  workload: string;
  rows: Row[];
  /** What was run, as one would type it. */
  commands: string[];
  notes: string[];
  loadBefore: number;
  loadAfter: number;
}

export interface Context {
  /** Seconds instead of minutes: shows that a workload works, its figures mean little. */
  small: boolean;
  /** A step that takes a while. */
  report: (step: string) => void;
}

export interface Workload {
  name: string;
  summary: string;
  run(context: Context): Promise<Pick<Result, 'rows' | 'commands'> & { notes?: string[] }>;
}

export interface Sample {
  value: number;
  cpuMs?: number;
}

const memoryPollMs = 20;
const rusageChildren = -1;

/** Seconds and microseconds of user and system time of all children waited for, in milliseconds. */
function childrenCpuMs(): number {
  const usage = Buffer.alloc(144);
  const getrusage = koffi.load('libc.so.6').func('int getrusage(int who, void *usage)');
  if (getrusage(rusageChildren, usage) !== 0) throw new Error('getrusage failed');
  const [userS, userUs, systemS, systemUs] = [0, 8, 16, 24].map(at =>
    Number(usage.readBigInt64LE(at)),
  ) as [number, number, number, number];
  return (userS + systemS) * 1e3 + (userUs + systemUs) / 1e3;
}

/** User, nice, system and interrupts, of all processors since boot; a tick is 10 ms. */
export function machineBusyMs(): number {
  const line = readFileSync('/proc/stat', 'utf8').split('\n')[0]!;
  const [user, nice, system, , , irq, softIrq] = line.split(/ +/).slice(1).map(Number);
  return 10 * (user! + nice! + system! + irq! + softIrq!);
}

/** Runs a command, one at a time; anything but exit status 0 is an error. */
export async function measured(
  command: readonly string[],
  options: { env?: NodeJS.ProcessEnv; pollMemory?: boolean } = {},
): Promise<Measured> {
  const [file, ...args] = command as [string, ...string[]];
  const cpuBefore = childrenCpuMs();
  const busyBefore = machineBusyMs();
  const started = performance.now();
  const child = spawn(file, args, {
    env: options.env ?? process.env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', text => {
      output[name] += text;
    });
  }
  let peakBytes = 0;
  const poll = () => {
    peakBytes = Math.max(peakBytes, peakMemoryBytes(child.pid));
  };
  const timer = options.pollMemory ? setInterval(poll, memoryPollMs) : undefined;
  let wallMs = 0;
  const status = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', () => {
      wallMs = performance.now() - started;
    });
    child.on('close', resolve);
  }).finally(() => clearInterval(timer));
  if (status !== 0) {
    throw new Error(`${command.join(' ')} ended with ${status}: ${output.stderr.slice(-2000)}`);
  }
  const cpuMs = childrenCpuMs() - cpuBefore;
  const othersMs = Math.max(0, machineBusyMs() - busyBefore - cpuMs);
  return { ...output, wallMs, cpuMs, peakBytes, othersShare: othersMs / wallMs / cpus().length };
}

function peakMemoryBytes(pid: number | undefined): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(/^VmHWM:\s+([0-9]+) kB$/m.exec(status)?.[1] ?? 0) * KiB;
  } catch {
    return 0; // It has ended.
  }
}

/** Processor time of a process that is not our child, all threads. */
export function processCpuMs(pid: number): number {
  const tasks = `/proc/${pid}/task`;
  if (!existsSync(tasks)) return 0;
  let nanoseconds = 0;
  for (const task of readdirSync(tasks)) {
    nanoseconds += Number(readFileSync(join(tasks, task, 'schedstat'), 'utf8').split(' ')[0]);
  }
  return nanoseconds / 1e6;
}

/** Each alternative once a round, in turn: what disturbs the machine disturbs all of them. */
export async function interleaved<Name extends string>(
  rounds: number,
  alternatives: Record<Name, (round: number) => Promise<Sample>>,
): Promise<Record<Name, Sample[]>> {
  const names = Object.keys(alternatives) as Name[];
  const samples = Object.fromEntries(names.map(name => [name, []])) as unknown as Record<
    Name,
    Sample[]
  >;
  for (let round = 0; round < rounds; round++) {
    for (const name of names) samples[name].push(await alternatives[name](round));
  }
  return samples;
}

/** Whether more is better: then nine of ten runs reach less than the median. */
export function isGain({ unit, target }: Pick<Row, 'unit' | 'target'>): boolean {
  if (target !== undefined) return 'atLeast' in target;
  return unit === 'MB/s' || unit === '%';
}

export function row(
  what: string,
  unit: Unit,
  samples: readonly Sample[],
  more: Pick<Row, 'ratio' | 'target'> = {},
): Row {
  const values = samples.map(sample => sample.value);
  const cpu = samples.flatMap(sample => (sample.cpuMs === undefined ? [] : [sample.cpuMs]));
  return {
    what,
    unit,
    n: values.length,
    p50: median(values),
    p90: quantile(values, isGain({ unit, ...more }) ? 0.1 : 0.9),
    ...(cpu.length === 0 ? {} : { cpuMs: median(cpu) }),
    ...more,
  };
}

export function ratioOf(samples: readonly Sample[], to: readonly Sample[], name: string) {
  const value = median(samples.map(s => s.value)) / median(to.map(s => s.value));
  return { value, to: name };
}

export function loadAverage(): number {
  return Number(readFileSync('/proc/loadavg', 'utf8').split(' ')[0]);
}
