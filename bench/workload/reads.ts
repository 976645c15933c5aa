/**
 * What reads of the lower tiers take, measured in a process that is set up as a daemon is: the
 * settings of V8 decide what a read of 512 KiB costs. `fork` it; it sends its steps, then its rows.
 */

import { collectBuffersWithTheHeap } from '../../src/base/external-memory.ts';
import { KiB } from '../../src/base/limits.ts';
import { chunkObjectKey } from '../../src/store/format.ts';
import { openStore } from '../../src/store/open-store.ts';
import { Roots } from '../../src/store/roots.ts';
import type { SealedChunk } from '../../test/support/sealed-chunks.ts';
import type { Context, Row } from '../harness.ts';
import { Machines, storeEnvironment } from './machines.ts';
import { makeChunks, Reader } from './reader.ts';
import { benchTiers } from './tiers.ts';
import { benchTroubles } from './troubles.ts';

export type ReadsMessage = { step: string } | { rows: Row[] };

const chunkSizeBytes = 512 * KiB;

async function benchReads(context: Context): Promise<Row[]> {
  await using machines = await Machines.start({ memoryMiB: context.small ? 64 : 256 });
  const chunks = makeChunks(context.small ? 32 : 256, chunkSizeBytes);
  const { near, far } = machines.newStore();
  await storeChunks(near, chunks);
  const rows: Row[] = [];
  {
    await using reader = await Reader.open(machines.nodes, far);
    await reader.warm(chunks);
    rows.push(...(await benchTiers(reader, chunks, context)));
  }
  rows.push(...(await benchTroubles({ machines, store: far, chunks, context })));
  return rows;
}

async function storeChunks(url: string, chunks: readonly SealedChunk[]): Promise<void> {
  const roots = new Roots(await openStore(url));
  await roots.create();
  const root = await roots.active();
  for (const { id, sealed } of chunks) {
    await root.chunks.put(chunkObjectKey(id), sealed, { ifAbsent: false });
  }
}

async function main(): Promise<void> {
  let isDone = false;
  // Also connections to the store that are kept end with it.
  process.on('disconnect', () => process.exit(isDone ? 0 : 1));
  const send = (message: ReadsMessage) => void process.send!(message);
  const small = process.argv.includes('--small');
  collectBuffersWithTheHeap();
  Object.assign(process.env, storeEnvironment);
  send({ rows: await benchReads({ small, report: step => send({ step }) }) });
  isDone = true;
  process.disconnect();
}

if (import.meta.main) await main();
