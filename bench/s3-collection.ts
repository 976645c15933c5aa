/**
 * `imgstore gc` of stores in S3 of which half the chunks are live, in one run that goes all the way: how
 * many copies a second, and that memory does not grow with the store.
 */

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { chunkSizeTargetBytes, MiB } from '../src/base/limits.ts';
import { type Context, type Measured, measured, type Row, row } from './harness.ts';
import type { BenchHome } from './home.ts';
import type { MemoryS3Process, TakenRequest } from './memory-s3.ts';
import { writeSyntheticImage } from './synthetic.ts';

/** Of what is no use to anybody: its sizes do not matter to a collection. */
const garbageBytes = 1000;
/**
 * For any number of chunks. What is in use stays at 15 MiB; V8 lets what is not grow for some seconds.
 */
const peakMaxMiB = 256;

/** A store that nothing is in yet. */
interface Place {
  url: string;
  environment: Readonly<Record<string, string>>;
}

export async function benchCollections(
  home: BenchHome,
  service: MemoryS3Process,
  newPlace: () => Place,
  { small, report }: Context,
): Promise<Row[]> {
  const rows: Row[] = [];
  let firstPeakBytes: number | undefined;
  for (const chunks of small ? [100] : [1000, 10_000]) {
    report(`s3: a collection of ${chunks} chunks`);
    await service.forget();
    await fill(home, newPlace(), chunks);
    await service.take();
    const { wallMs, cpuMs, peakBytes } = await collect(home);
    const copies = (await service.take()).filter(({ method }) => method === 'COPY');
    firstPeakBytes ??= peakBytes;
    rows.push(
      row(`gc of ${chunks} chunks, half of them live`, 'ms', [{ value: wallMs, cpuMs }]),
      row('  copies', 'count', [{ value: copies.length }]),
      row('  copies a second', 'count', [{ value: ratePerSecond(copies) }]),
      row('  peak memory', 'MiB', [{ value: peakBytes / MiB }], {
        ratio: { value: peakBytes / firstPeakBytes, to: 'fewest' },
        target: { atMost: peakMaxMiB },
      }),
    );
  }
  return rows;
}

function collect(home: BenchHome): Promise<Measured> {
  return home.measure(['gc', '--grace', '0s', '--json'], { pollMemory: true });
}

/** An image of half so many chunks, and as many that nobody needs. */
async function fill(home: BenchHome, { url, environment }: Place, chunks: number): Promise<void> {
  home.useStore(url, environment);
  const dir = home.path('collected');
  await home.push(writeSyntheticImage(dir, 'live', (chunks / 2) * chunkSizeTargetBytes), 'live');
  rmSync(dir, { recursive: true });
  const sizes = home.path('garbage.json');
  writeFileSync(sizes, JSON.stringify(Array(chunks / 2).fill(garbageBytes)));
  const command = [process.execPath, join(import.meta.dirname, 'put-objects.ts'), url, sizes];
  await measured(command, { env: { ...process.env, ...environment } });
}

function ratePerSecond(taken: readonly TakenRequest[]): number {
  const began = Math.min(...taken.map(({ beganMs }) => beganMs));
  const ended = Math.max(...taken.map(({ endedMs }) => endedMs));
  return (1000 * taken.length) / (ended - began);
}
