/** Bytes, collected chunks, and the cutting rule written down a second time, as the document says it. */

import { createCipheriv } from 'node:crypto';
import type { ChunkSizes } from '../../src/chunk/rule.ts';
import { gearTable } from '../../src/chunk/rule.ts';
import { RunChunker } from '../../src/chunk/run-chunker.ts';

/** Sizes that keep property tests quick; as 1 : 4 : 16, like the real ones. */
export const smallSizes: ChunkSizes = { minBytes: 8192, targetBytes: 32768, maxBytes: 131_072 };

/** `openssl enc -aes-128-ctr -K SEED -iv 0 -in /dev/zero`: the seed as a 32-digit number. */
export function keystream(seed: number, sizeBytes: number): Buffer {
  const key = Buffer.alloc(16);
  key.writeUInt32BE(seed, 12);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(sizeBytes));
}

/** The chunks of one run, written in pieces that end at `splits`. */
export function chunksOf(
  run: Buffer,
  options: { sizes?: ChunkSizes; splits?: readonly number[]; alignBytes?: number } = {},
): Buffer[] {
  const chunks: Buffer[] = [];
  const chunker = new RunChunker(bytes => {
    chunks.push(bytes);
    return undefined;
  }, options.sizes);
  let from = 0;
  for (const to of [...(options.splits ?? []), run.length]) {
    chunker.write(run.subarray(from, to));
    from = to;
  }
  chunker.end({ alignBytes: options.alignBytes ?? 4096 });
  return chunks;
}

/** Lengths of the chunks of a run, without its padding; straight from docs/format/chunk.md. */
export function referenceCuts(run: Buffer, sizes: ChunkSizes): number[] {
  const bits = Math.log2(sizes.targetBytes);
  const lengths: number[] = [];
  let start = 0;
  while (start < run.length) {
    const length = firstCut(run.subarray(start), sizes, bits);
    const rest = run.length - start - length;
    const padding = (4096 - (run.length % 4096)) % 4096;
    if (rest < sizes.minBytes && length + rest + padding <= sizes.maxBytes) {
      lengths.push(length + rest);
      break;
    }
    lengths.push(length);
    start += length;
  }
  return lengths;
}

function firstCut(run: Buffer, sizes: ChunkSizes, bits: number): number {
  const forced = sizes.maxBytes - 4096;
  for (let length = sizes.minBytes + 1; length < Math.min(forced, run.length); length++) {
    const wanted = length <= (sizes.targetBytes * 13) / 16 ? bits + 2 : bits - 2;
    if (hashBefore(run, length, sizes.minBytes) >>> (32 - wanted) === 0) return length;
  }
  return Math.min(forced, run.length);
}

/** The sum over the last 32 bytes, none of them before `from`, each shifted by its distance. */
function hashBefore(run: Buffer, end: number, from: number): number {
  let sum = 0;
  for (let distance = 0; distance < 32 && end - 1 - distance >= from; distance++) {
    sum = (sum + (gearTable[run[end - 1 - distance]!]! << distance)) | 0;
  }
  return sum;
}
