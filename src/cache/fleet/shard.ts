/**
 * A shard of a sealed chunk as a node of the fleet keeps it, and the chunk out of such shards. See
 * docs/format/shard.md.
 *
 * Invariant: a node is not believed. What reads as a shard of this chunk has a right checksum, which
 * finds accidents; a chunk is only what has the SHA-256 that its id says, which finds lies.
 */

import { crc32 } from 'node:zlib';
import { assert } from '../../base/assert.ts';
import { type ChunkId, sha256Hex } from '../../base/digest.ts';
import { decode, encode, type Shape, shardSizeBytes } from '../../erasure/reed-solomon.ts';
import {
  checksumAt,
  chunkIdAt,
  chunkSizeAt,
  dataShardsAt,
  headerSizeBytes,
  indexAt,
  magic,
  magicAt,
  parityShardsAt,
  version,
  versionAt,
} from './format.ts';

/** What shards are of. */
export interface ShardedChunk extends Shape {
  readonly id: ChunkId;
  /** Of the sealed chunk: 1 to sealedChunkSizeMaxBytes. */
  readonly sizeBytes: number;
}

export interface Shard {
  /** Below dataShards: of data; the others are of parity. */
  readonly index: number;
  readonly payload: Buffer;
}

/** A shard to be stored: the value is the header, then the payload. */
export interface StoredShard extends Shard {
  readonly header: Buffer;
}

/**
 * Why a value is no shard of the chunk. `unknown`: not of this format and version. `foreign`: of
 * another chunk or shape. `damaged`: its checksum is another, or bytes are missing.
 */
export type WrongValue = 'unknown' | 'foreign' | 'damaged';

/**
 * Each way to make a chunk costs a millisecond. One liar is always found: 16 of data are replaced in
 * turn by the same one of parity. With 4 + 1 there are five ways in all.
 */
const subsetsMax = 32;

/** Of the value of every shard of this chunk. */
export function valueSizeBytes(chunk: ShardedChunk): number {
  return headerSizeBytes + shardSizeBytes(chunk.sizeBytes, chunk);
}

/** All k + m shards, by index. The payloads of data share the chunk's memory; don't write to it. */
export function makeShards(chunk: Omit<ShardedChunk, 'sizeBytes'>, sealed: Buffer): StoredShard[] {
  const all = { ...chunk, sizeBytes: sealed.length };
  return encode(sealed, chunk).map((payload, index) => {
    const header = makeHeader(all, index);
    header.writeUInt32LE(checksumOf(header, payload), checksumAt);
    return { index, header, payload };
  });
}

/** A value that some node answered. The payload is a part of it. */
export function readShard(value: Buffer, chunk: ShardedChunk): Shard | WrongValue {
  if (value.length < headerSizeBytes || value.readUInt32LE(magicAt) !== magic) return 'unknown';
  if (value[versionAt] !== version) return 'unknown';
  const index = value[indexAt]!;
  if (index >= chunk.dataShards + chunk.parityShards) return 'foreign';
  const expected = makeHeader(chunk, index);
  if (value.compare(expected, 0, checksumAt, 0, checksumAt) !== 0) return 'foreign';
  const payload = value.subarray(headerSizeBytes);
  if (value.length !== valueSizeBytes(chunk)) return 'damaged';
  if (checksumOf(value, payload) !== value.readUInt32LE(checksumAt)) return 'damaged';
  return { index, payload };
}

/**
 * The sealed chunk, compared with its id, of shards of which k have indexes that differ; several may
 * have the same. Undefined if there are too few, or if they do not make the chunk in any of the ways
 * tried: with more shards there may be one. The first ones are tried first; if those are right, the
 * others are not looked at, else `lies` are all that are not what the chunk encodes to.
 */
export function joinShards<S extends Shard>(
  shards: readonly S[],
  chunk: ShardedChunk,
): { sealed: Buffer; lies: S[] } | undefined {
  let tried = 0;
  for (const subset of subsets(shards, chunk.dataShards)) {
    const places = Array<Buffer | undefined>(chunk.dataShards + chunk.parityShards).fill(undefined);
    for (const { index, payload } of subset) places[index] = payload;
    const sealed = decode(places, { ...chunk, lengthBytes: chunk.sizeBytes });
    if (sha256Hex(sealed) === chunk.id) {
      return { sealed, lies: tried === 0 ? [] : liesAmong(shards, sealed, chunk) };
    }
    if (++tried === subsetsMax) break;
  }
  return undefined;
}

/**
 * Which shard each node is to keep, by what it has now: nodes that have one which nobody before them
 * has keep it, the others get those that nobody has. So shards that are there stay where they are
 * while nodes come and go. As many nodes as shards, or fewer.
 */
export function assignShards(held: readonly (number | undefined)[], shape: Shape): number[] {
  const free = new Set(Array(shape.dataShards + shape.parityShards).keys());
  assert(held.length <= free.size, 'there is a shard for every node');
  const kept = held.map(index => (index !== undefined && free.delete(index) ? index : undefined));
  const rest = free.values();
  return kept.map(index => index ?? rest.next().value!);
}

function makeHeader(chunk: ShardedChunk, index: number): Buffer {
  const header = Buffer.alloc(headerSizeBytes);
  header.writeUInt32LE(magic, magicAt);
  header[versionAt] = version;
  header[dataShardsAt] = chunk.dataShards;
  header[parityShardsAt] = chunk.parityShards;
  header[indexAt] = index;
  header.writeUInt32LE(chunk.sizeBytes, chunkSizeAt);
  header.write(chunk.id, chunkIdAt, 'hex');
  return header;
}

/** `header` may be a whole value. */
function checksumOf(header: Buffer, payload: Buffer): number {
  return crc32(payload, crc32(header.subarray(0, checksumAt)));
}

function liesAmong<S extends Shard>(shards: readonly S[], sealed: Buffer, shape: Shape): S[] {
  const right = encode(sealed, shape);
  return shards.filter(({ index, payload }) => !right[index]!.equals(payload));
}

/**
 * Sets of `size` shards whose indexes differ: first those that come first, then with one of them
 * replaced by another, then with two, …
 */
function* subsets<S extends Shard>(shards: readonly S[], size: number): Generator<S[]> {
  const first: S[] = [];
  const spare: S[] = [];
  for (const shard of shards) {
    const fits = first.length < size && first.every(({ index }) => index !== shard.index);
    (fits ? first : spare).push(shard);
  }
  if (first.length < size) return;
  for (let replaced = 0; replaced <= Math.min(spare.length, size); replaced++) {
    for (const others of combinations(spare, replaced)) {
      for (const kept of combinations(first, size - replaced)) {
        const subset = [...kept, ...others];
        if (new Set(subset.map(({ index }) => index)).size === size) yield subset;
      }
    }
  }
}

function* combinations<T>(values: readonly T[], size: number, from = 0): Generator<T[]> {
  if (size === 0) yield [];
  for (let at = from; size > 0 && at <= values.length - size; at++) {
    for (const rest of combinations(values, size - 1, at + 1)) yield [values[at]!, ...rest];
  }
}
