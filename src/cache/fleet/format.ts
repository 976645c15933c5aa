/** The value and the keys of a shard, version 1, as docs/format/shard.md describes them. */

import type { ChunkId } from '../../base/digest.ts';
import type { Shape } from '../../erasure/reed-solomon.ts';

/** "ISHD", read as a little-endian number. */
export const magic = 0x44485349;
export const version = 1;

export const magicAt = 0;
export const versionAt = 4;
export const dataShardsAt = 5;
export const parityShardsAt = 6;
export const indexAt = 7;
/** Of the sealed chunk, 32 bits. */
export const chunkSizeAt = 8;
export const chunkIdAt = 12;
/** CRC-32 of all bytes before it and all after it. */
export const checksumAt = 44;
/** A multiple of 8, so that in memory the payload begins at a whole word if the value does. */
export const headerSizeBytes = 48;

/**
 * What a shard of this chunk is found by: printable ASCII without spaces. The index is not in it:
 * docs/format/shard.md says why.
 */
export function shardKey(id: ChunkId, shape: Shape): string {
  return keyOf('shard', id, shape);
}

/**
 * Where it is noted that somebody fetches this chunk. With its size: who asks for a wrong one must
 * not make others wait. The value is empty, or `doneMark`.
 */
export function leaseKey(id: ChunkId, sizeBytes: number, shape: Shape): string {
  return `${keyOf('lease', id, shape)}/${sizeBytes}`;
}

/** Of a lease on a chunk that is stored by now: those that wait find it. Any other value is none. */
export const doneMark = Buffer.from('d');

/** Where it is noted, at a node that lacks its shard of this chunk, that somebody stores it again. */
export function repairKey(id: ChunkId, shape: Shape): string {
  return keyOf('repair', id, shape);
}

function keyOf(what: string, id: ChunkId, { dataShards, parityShards }: Shape): string {
  return `imgstore/${what}/${version}/${dataShards}+${parityShards}/${id}`;
}
