/**
 * What shards of the shared cache cost: encoding, decoding, checksums, and placing them on nodes.
 * Rates are bytes of sealed chunks per second of processor time, all threads together: what one core
 * does, whatever else runs on the machine.
 */

import { randomBytes } from 'node:crypto';
import { type ChunkId, sha256Hex } from '../src/base/digest.ts';
import { KiB } from '../src/base/limits.ts';
import { Placement } from '../src/cache/fleet/placement.ts';
import { joinShards, makeShards, readShard, type Shard } from '../src/cache/fleet/shard.ts';
import { decode, encode } from '../src/erasure/reed-solomon.ts';
import { type Context, interleaved, type Row, row, type Sample, type Workload } from './harness.ts';

const chunkSizeBytes = 512 * KiB;
/** More than a core's caches hold: chunks come from the network. */
const chunksCount = 64;
const chunksCountSmall = 8;
const shapes = [
  [4, 1],
  [4, 2],
  [8, 3],
  [16, 4],
] as const;

export const workload: Workload = {
  name: 'erasure',
  summary: 'shards of the shared cache: encode, decode, checksums, placement',

  async run(context) {
    const rows = await benchErasure(context, shapes);
    context.report('erasure: placement');
    rows.push(...(await benchPlacement(context.small ? 1 : 15)));
    return {
      rows,
      commands: ['node bench/main.ts erasure'],
      notes: [`Chunks of ${chunkSizeBytes / KiB} KiB, bytes per second of processor time.`],
    };
  },
};

/** Of shapes as they are written: data shards, then parity shards. */
export async function benchErasure(
  { small, report }: Context,
  shapes: readonly (readonly [number, number])[],
): Promise<Row[]> {
  const chunks = Array.from({ length: small ? chunksCountSmall : chunksCount }, () =>
    randomBytes(chunkSizeBytes),
  );
  const rows: Row[] = [];
  for (const [dataShards, parityShards] of shapes) {
    report(`erasure: ${dataShards} + ${parityShards}`);
    rows.push(...(await benchShape(chunks, { dataShards, parityShards }, small ? 3 : 15)));
  }
  return rows;
}

async function benchShape(
  chunks: readonly Buffer[],
  shape: { dataShards: number; parityShards: number },
  rounds: number,
): Promise<Row[]> {
  const name = `${shape.dataShards} + ${shape.parityShards}`;
  const coded = chunks.map(chunk => encode(chunk, shape).map(shard => Buffer.from(shard)));
  const damaged = coded.map(shards =>
    shards.map((shard, index) => (index < shape.parityShards ? undefined : shard)),
  );
  const options = { ...shape, lengthBytes: chunkSizeBytes };
  const ids = chunks.map(chunk => sha256Hex(chunk) as ChunkId);
  const values = chunks.map((chunk, at) =>
    makeShards({ ...shape, id: ids[at]! }, chunk).map(({ header, payload }) =>
      Buffer.concat([header, payload]),
    ),
  );
  const join = (at: number) => {
    const chunk = { ...shape, id: ids[at]!, sizeBytes: chunkSizeBytes };
    const shards = values[at]!.slice(shape.parityShards).map(value => readShard(value, chunk));
    return joinShards(shards as Shard[], chunk)!.sealed;
  };
  const alternatives = {
    encode: () => rate(chunks.length, at => encode(chunks[at]!, shape)),
    whole: () => rate(chunks.length, at => decode(coded[at]!, options)),
    lost: () => rate(chunks.length, at => decode(damaged[at]!, options)),
    make: () => rate(chunks.length, at => makeShards({ ...shape, id: ids[at]! }, chunks[at]!)),
    join: () => rate(chunks.length, join),
  };
  for (const each of Object.values(alternatives)) await each(); // compiled before it is measured
  const samples = await interleaved(rounds, alternatives);
  const target = name === '4 + 1' ? { target: { atLeast: 1000 } } : {};
  return [
    row(`${name}, encode`, 'MB/s', samples.encode, target),
    row(`${name}, decode, no data lost`, 'MB/s', samples.whole, target),
    row(`${name}, decode, ${shape.parityShards} of data lost`, 'MB/s', samples.lost, target),
    row(`${name}, encode and headers`, 'MB/s', samples.make),
    row(`${name}, the same read, joined, compared with the id`, 'MB/s', samples.join),
  ];
}

/** Of one round over so many chunks. */
async function rate(chunks: number, work: (at: number) => unknown): Promise<Sample> {
  const cpuUs = cpuOf(() => {
    for (let at = 0; at < chunks; at++) work(at);
  });
  return { value: (chunks * chunkSizeBytes) / cpuUs };
}

async function benchPlacement(rounds: number): Promise<Row[]> {
  const ids = Array.from({ length: 1000 }, (_, at) => sha256Hex(Buffer.from(`${at}`)) as ChunkId);
  const rows: Row[] = [];
  for (const count of [5, 50, 500]) {
    const nodes = Array.from({ length: count }, (_, at) => ({
      name: `node-${at}`,
      weight: 1 + (at % 3),
      domain: `rack-${at % 10}`,
    }));
    const placement = new Placement(nodes);
    const place = async (): Promise<Sample> => {
      const cpuUs = cpuOf(() => ids.map(id => placement.place(id, 5)));
      return { value: cpuUs / ids.length };
    };
    await place();
    const { samples } = await interleaved(rounds, { samples: place });
    rows.push(row(`5 of ${count} nodes for a chunk`, 'µs', samples));
  }
  return rows;
}

/** In µs. */
function cpuOf(work: () => unknown): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return user + system;
}
