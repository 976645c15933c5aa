/**
 * Reed-Solomon shards: k of data and m of parity, any k of which give the data back.
 *
 * Invariants: the first k shards are the data themselves, so nothing is computed while they are all
 * there; every shard has shardSizeBytes. Parity j is the sum of x^(i j) times data shard i: parity 0
 * is XOR. Within the limits every square part of that matrix can be inverted, which is what "any k"
 * means; test/erasure/reed-solomon.test.ts inverts them all.
 */

import { assert } from '../base/assert.ts';
import { dataShardsMax, parityShardsMax } from '../base/limits.ts';
import { addTerms, type Term, wordsOf } from './combine.ts';
import { invertMatrix, multiply, powerOfX } from './field.ts';

export interface Shape {
  /** k: 1 to dataShardsMax. */
  readonly dataShards: number;
  /** m: 0 to parityShardsMax. */
  readonly parityShards: number;
}

/** Shards are whole words of so many bytes. */
const wordSizeBytes = 8;

export function isShape({ dataShards, parityShards }: Shape): boolean {
  return (
    Number.isInteger(dataShards) &&
    Number.isInteger(parityShards) &&
    dataShards >= 1 &&
    dataShards <= dataShardsMax &&
    parityShards >= 0 &&
    parityShards <= parityShardsMax
  );
}

/** Of each shard of `lengthBytes` of data: a k-th of them, padded with zeros to whole words. */
export function shardSizeBytes(lengthBytes: number, { dataShards }: Shape): number {
  return wordSizeBytes * Math.ceil(lengthBytes / dataShards / wordSizeBytes);
}

/**
 * k + m shards. Those of data that need no padding are parts of `data`, not copies, if it begins at
 * a multiple of 4 bytes in its memory.
 */
export function encode(data: Buffer, shape: Shape): Buffer[] {
  checkShape(shape, data.length);
  const sizeBytes = shardSizeBytes(data.length, shape);
  const aligned = data.byteOffset % 4 === 0 ? data : Buffer.from(new Uint8Array(data).buffer);
  const shards = Array.from({ length: shape.dataShards }, (_, index) => {
    const shard = aligned.subarray(index * sizeBytes, (index + 1) * sizeBytes);
    return shard.length === sizeBytes ? shard : padded(shard, sizeBytes);
  });
  const sources = shards.map(wordsOf);
  for (let parity = 0; parity < shape.parityShards; parity++) {
    const terms = sources.map((words, data) => ({ factor: factorOf(parity, data), words }));
    const sum = new Uint32Array(sizeBytes / 4);
    addTerms(sum, terms);
    shards.push(Buffer.from(sum.buffer));
  }
  return shards;
}

/**
 * The data, of any k shards at their places among k + m; more are not looked at. They are trusted to
 * be right. A buffer of its own, unless k is 1 and the shard of data is there.
 */
export function decode(
  shards: readonly (Buffer | undefined)[],
  { lengthBytes, ...shape }: Shape & { lengthBytes: number },
): Buffer {
  checkShape(shape, lengthBytes);
  const { dataShards } = shape;
  const sizeBytes = shardSizeBytes(lengthBytes, shape);
  assert(shards.length === dataShards + shape.parityShards, 'there is a place for every shard');
  for (const shard of shards) {
    assert(shard === undefined || shard.length === sizeBytes, 'shards have the size of the shape');
  }
  if (dataShards === 1 && shards[0] !== undefined) return shards[0].subarray(0, lengthBytes);
  // Slow means of its own, at the start of its memory: whole words.
  const data = Buffer.allocUnsafeSlow(dataShards * sizeBytes);
  const lost: number[] = [];
  for (let index = 0; index < dataShards; index++) {
    const shard = shards[index];
    if (shard === undefined) lost.push(index);
    else shard.copy(data, index * sizeBytes);
  }
  if (lost.length > 0) restore(data, lost, shards.slice(dataShards));
  return data.subarray(0, lengthBytes);
}

/** Computes the lost shards of `data` in their places, from the others and as many of parity. */
function restore(
  data: Buffer,
  lost: readonly number[],
  parities: readonly (Buffer | undefined)[],
): void {
  const used = parities.flatMap((shard, parity) => (shard ? [{ parity, shard }] : []));
  assert(used.length >= lost.length, 'there are as many shards as there are of data');
  used.length = lost.length;
  const sizeWords = used[0]!.shard.length / 4;
  const words = wordsOf(data);
  const wordsAt = (index: number) => words.subarray(index * sizeWords, (index + 1) * sizeWords);
  const inverse = invertMatrix(
    used.map(({ parity }) => lost.map(index => factorOf(parity, index))),
  );
  const parityWords = used.map(({ shard }) => wordsOf(shard));
  const known = Array.from({ length: words.length / sizeWords }, (_, index) => index).filter(
    index => !lost.includes(index),
  );
  for (const [at, index] of lost.entries()) {
    const factors = inverse[at]!;
    const terms: Term[] = parityWords.map((words, at) => ({ factor: factors[at]!, words }));
    for (const each of known) {
      let factor = 0;
      for (const [at, { parity }] of used.entries()) {
        factor ^= multiply(factors[at]!, factorOf(parity, each));
      }
      terms.push({ factor, words: wordsAt(each) });
    }
    addTerms(wordsAt(index).fill(0), terms);
  }
}

function factorOf(parity: number, data: number): number {
  return powerOfX(parity * data);
}

function padded(bytes: Buffer, sizeBytes: number): Buffer {
  const shard = Buffer.alloc(sizeBytes);
  bytes.copy(shard);
  return shard;
}

function checkShape(shape: Shape, lengthBytes: number): void {
  assert(isShape(shape), 'the numbers of shards are within their limits');
  assert(Number.isSafeInteger(lengthBytes) && lengthBytes > 0, 'there are data');
}
