/**
 * The same reads with all nodes well and with one of five in trouble, in turn. A phase with trouble is
 * compared with the healthy ones before and after it, so that what the machine does besides hits
 * both. The trouble begins with the phase: its first reads meet a node of which nothing is known.
 *
 * The node in trouble stands behind a proxy, in the healthy phases too; but the one that is
 * killed does not, since a proxy would not die with it.
 */

import type { MemcachedServer } from '../../test/support/memcached.ts';
import { type ProcessFault, ProxyProcess } from '../../test/support/proxy-process.ts';
import { Random } from '../../test/support/random.ts';
import type { SealedChunk } from '../../test/support/sealed-chunks.ts';
import { type Context, type Row, row, type Sample } from '../harness.ts';
import { type LoadResult, runLoad } from './load.ts';
import type { Machines } from './machines.ts';
import { Reader } from './reader.ts';

interface Trouble {
  what: string;
  begin(): Promise<void>;
  end(): Promise<void>;
}

interface Phases {
  /** One more than with trouble: before, between and after those. */
  healthy: LoadResult[];
  troubled: LoadResult[];
}

const faults: readonly [string, ProcessFault][] = [
  ['slowed by 200 ms', { do: 'delay', waitMs: 200 }],
  ['answering garbage', { do: 'garbage' }],
  ['with damaged values', { do: 'flip' }],
  ['resetting connections', { do: 'reset' }],
];

/**
 * A third of what one reader can take, so that reads seldom wait for each other; and less than passes
 * the link, so that misses of all of them would not pile up there.
 */
const readsPerSecond = 200;
/** From then on the node is known to be in trouble. */
const knownAfterMs = 1000;

interface Options {
  machines: Machines;
  store: string;
  chunks: readonly SealedChunk[];
  context: Context;
}

export async function benchTroubles(options: Options): Promise<Row[]> {
  const { machines, store, context } = options;
  const { nodes } = machines;
  const victim = nodes.at(-1)!;
  const rows: Row[] = [];
  {
    await using reader = await Reader.open(nodes, store);
    rows.push(...(await benchTrouble(reader, killed(victim), options)));
  }
  await using proxy = await ProxyProcess.start(victim);
  await using reader = await Reader.open([...nodes.slice(0, -1), proxy], store);
  for (const [what, fault] of context.small ? faults.slice(0, 2) : faults) {
    const trouble = {
      what: `one node ${what}`,
      begin: () => proxy.setFault(fault),
      end: () => proxy.setFault(undefined),
    };
    rows.push(...(await benchTrouble(reader, trouble, options)));
  }
  return rows;
}

function killed(node: MemcachedServer): Trouble {
  return { what: 'one node killed', begin: () => node.kill(), end: () => node.restart() };
}

async function benchTrouble(
  reader: Reader,
  trouble: Trouble,
  { chunks, context }: Options,
): Promise<Row[]> {
  const { small, report } = context;
  const random = new Random(1);
  const reads = small ? 100 : 3000;
  const phases: Phases = { healthy: [], troubled: [] };
  const load = () => runLoad(reader.tiers, { chunks, reads, readsPerSecond, random });
  await reader.warm(chunks);
  phases.healthy.push(await load());
  for (let round = 0; round < (small ? 1 : 3); round++) {
    report(`workload: ${trouble.what}, round ${round + 1}`);
    const loading = load();
    await trouble.begin();
    phases.troubled.push(await loading);
    await trouble.end();
    await reader.warm(chunks);
    phases.healthy.push(await load());
  }
  return rowsOf(trouble.what, phases, small ? knownAfterMs / 5 : knownAfterMs);
}

function rowsOf(what: string, { healthy, troubled }: Phases, knownMs: number): Row[] {
  const known = troubled.map(load => load.since(knownMs));
  const p99 = (load: LoadResult): Sample => ({ value: load.latencyMs(0.99), cpuMs: load.cpuMs });
  /** Against the mean of its neighbours. */
  const compared = (loads: LoadResult[], of: (load: LoadResult) => number) =>
    loads.map((load, round) => ({
      load: of(load),
      healthy: (of(healthy[round]!) + of(healthy[round + 1]!)) / 2,
    }));
  const slower = (loads: LoadResult[]) =>
    compared(loads, load => load.latencyMs(0.99)).map(each => ({
      value: each.load / each.healthy,
    }));
  const lost = (loads: LoadResult[]) =>
    compared(loads, load => load.hitRate('l2')).map(each => ({ value: each.healthy - each.load }));
  const sum = (of: (load: LoadResult) => number) =>
    [...healthy, ...troubled].reduce((total, load) => total + of(load), 0);
  const [pointsMax, timesMax] = [{ target: { atMost: 0.5 } }, { target: { atMost: 1.3 } }];
  const none = { target: { atMost: 0 } };
  return [
    row(`${what}: p99`, 'ms', troubled.map(p99)),
    row('  all well before and after: p99', 'ms', healthy.map(p99)),
    row('  slower, of p99', '×', slower(troubled), timesMax),
    row(`  slower after ${knownMs} ms, of p99`, '×', slower(known), timesMax),
    row('  hits lost', 'points', lost(troubled), pointsMax),
    row(`  hits lost after ${knownMs} ms`, 'points', lost(known), pointsMax),
    row('  reads without an answer', 'count', [{ value: sum(load => load.failed) }], none),
    row('  answers with wrong bytes', 'count', [{ value: sum(load => load.wrong) }], none),
  ];
}
