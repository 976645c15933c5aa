/** One read after the other: what the shared cache takes for a chunk, and the store behind it. */

import type { ChunkSource } from '../../src/cache/chunk-source.ts';
import type { SealedChunk } from '../../test/support/sealed-chunks.ts';
import { type Context, interleaved, type Row, row, type Sample } from '../harness.ts';
import { LoadResult, timed } from './load.ts';
import type { Reader } from './reader.ts';

/** Everything is in the shared cache. */
export async function benchTiers(
  reader: Reader,
  chunks: readonly SealedChunk[],
  { small, report }: Context,
): Promise<Row[]> {
  const rounds = small ? 3 : 9;
  report('workload: one read after the other');
  const p99: Record<'l2' | 'store', Sample[]> = { l2: [], store: [] };
  const measure = async (
    source: ChunkSource,
    tier: 'l2' | 'store',
    from: number,
    reads: number,
  ) => {
    const result = await oneAfterTheOther(source, chunks, from, reads);
    if (result.wrong + result.failed > 0) throw new Error(`${tier} gave other bytes, or none`);
    p99[tier].push({ value: result.latencyMs(0.99) });
    return { value: result.latencyMs(0.5), cpuMs: result.cpuMs };
  };
  const l2Reads = small ? 50 : 500;
  const l3Reads = small ? 5 : 50;
  await oneAfterTheOther(reader.tiers, chunks, 0, l2Reads); // compiled before it is measured
  await oneAfterTheOther(reader.l3, chunks, 0, l3Reads);
  const p50 = await interleaved(rounds, {
    l2: round => measure(reader.tiers, 'l2', round * l2Reads, l2Reads),
    store: round => measure(reader.l3, 'store', round * l3Reads, l3Reads),
  });
  const times = p50.l2.map(({ value }, round) => ({ value: p50.store[round]!.value / value }));
  return [
    row(`L2 hit, p50 of ${l2Reads}`, 'ms', p50.l2, { target: { atMost: 3 } }),
    row(`L2 hit, p99 of ${l2Reads}`, 'ms', p99.l2, { target: { atMost: 10 } }),
    row(`L3, p50 of ${l3Reads}`, 'ms', p50.store),
    row(`L3, p99 of ${l3Reads}`, 'ms', p99.store),
    row('L2 is faster than L3, of p50', '×', times, { target: { atLeast: 10 } }),
  ];
}

async function oneAfterTheOther(
  source: ChunkSource,
  chunks: readonly SealedChunk[],
  from: number,
  count: number,
): Promise<LoadResult> {
  const cpuBefore = process.cpuUsage();
  const reads = [];
  for (let at = from; at < from + count; at++) {
    reads.push(await timed(source, chunks[at % chunks.length]!));
  }
  const { user, system } = process.cpuUsage(cpuBefore);
  return new LoadResult(reads, (user + system) / 1e3);
}
