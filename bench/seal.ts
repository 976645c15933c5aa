/**
 * What chunking, sealing and opening cost on one core, and what zstd's level and the chunk size
 * are worth: `node bench/seal.ts [FOLDER [MIB]]` (default: 128 MiB of /usr/lib).
 *
 * Rates are bytes of plain chunks per second of processor time, all threads together, so they say
 * what one core does and bear other programs beside them. Files are sampled by a hash of their path
 * and go through the chunkers as in a push. docs/format/sealed-chunk.md holds the figures.
 */

import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { constants, zstdCompressSync, zstdDecompress, zstdDecompressSync } from 'node:zlib';
import { sha256 } from '../src/base/digest.ts';
import { blockSizeBytes, KiB, MiB, packedFileSizeMaxBytes } from '../src/base/limits.ts';
import { FilePacker } from '../src/chunk/file-packer.ts';
import { RunChunker } from '../src/chunk/run-chunker.ts';
import { chunkIdOf, chunkKey, openChunk, sealChunk } from '../src/seal/seal.ts';

const [folder = '/usr/lib', sampleMiB = '128'] = process.argv.slice(2);

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Not readdir's own recursion: that follows links to folders, round and round. */
function pathsBelow(path: string): string[] {
  return readdirSync(path, { withFileTypes: true }).flatMap(entry => {
    const below = join(path, entry.name);
    return entry.isDirectory() ? pathsBelow(below) : entry.isFile() ? [below] : [];
  });
}

function sampleFiles(): Buffer[] {
  const paths = pathsBelow(folder).sort();
  const totalBytes = paths.reduce((sum, path) => sum + statSync(path).size, 0);
  const share = (Number(sampleMiB) * MiB) / totalBytes;
  return paths
    .filter(path => sha256(Buffer.from(path)).readUInt32BE(0) < share * 2 ** 32)
    .map(path => readFileSync(path))
    .filter(file => file.length > 0);
}

function chunksOf(files: Buffer[], targetBytes: number): Buffer[] {
  const chunks: Buffer[] = [];
  const keep = (bytes: Buffer): undefined => {
    chunks.push(bytes);
  };
  const sizes = { minBytes: targetBytes / 4, targetBytes, maxBytes: targetBytes * 4 };
  const chunker = new RunChunker(keep, sizes);
  const packer = new FilePacker<undefined>(keep, sizes);
  for (const file of files) {
    if (file.length < packedFileSizeMaxBytes) packer.add(undefined, file, sha256(file));
    else {
      chunker.write(file);
      chunker.end({ alignBytes: blockSizeBytes });
    }
  }
  packer.flush();
  return chunks;
}

function total(chunks: readonly Uint8Array[]): number {
  return chunks.reduce((sum, chunk) => sum + chunk.length, 0);
}

/** The rate of `work` as text, and what it returned. */
async function rated<T>(bytes: number, work: () => T | Promise<T>): Promise<[string, T]> {
  const before = process.cpuUsage();
  const result = await work();
  const { user, system } = process.cpuUsage(before);
  return [`${Math.round(bytes / (user + system))} MB/s`, result];
}

async function benchCompression(files: Buffer[]): Promise<void> {
  for (const targetKiB of [128, 256, 512]) {
    const chunks = chunksOf(files, targetKiB * KiB);
    const bytes = total(chunks);
    const mean = Math.round(bytes / chunks.length / KiB);
    print(`target ${targetKiB} KiB: ${chunks.length} chunks of ${mean} KiB`);
    for (const level of [1, 3, 6, 9]) {
      const params = { [constants.ZSTD_c_compressionLevel]: level };
      const [packRate, frames] = await rated(bytes, () =>
        chunks.map(chunk => zstdCompressSync(chunk, { params, chunkSize: chunk.length + 8 * KiB })),
      );
      const [unpackRate] = await rated(bytes, () => {
        for (const [i, frame] of frames.entries()) {
          zstdDecompressSync(frame, { chunkSize: chunks[i]!.length + 1 });
        }
      });
      const ratio = (total(frames) / bytes).toFixed(3);
      print(`  level ${level}: ratio ${ratio}, compress ${packRate}, decompress ${unpackRate}`);
    }
  }
}

async function benchSealing(chunks: Buffer[]): Promise<void> {
  const bytes = total(chunks);
  const salt = randomBytes(32);
  const [keyRate, keys] = await rated(bytes, () => chunks.map(chunk => chunkKey(chunk, salt)));
  // Four in flight, as in a push: each holds a compressor of a megabyte or more.
  const sealed: Buffer[] = [];
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < chunks.length) {
      const index = next++;
      sealed[index] = (await sealChunk(chunks[index]!, keys[index]!)).sealed;
    }
  };
  const [sealRate] = await rated(bytes, () => Promise.all([lane(), lane(), lane(), lane()]));
  const [idRate] = await rated(bytes, () => {
    for (const each of sealed) chunkIdOf(each);
  });
  const [openRate] = await rated(bytes, async () => {
    for (const [i, each] of sealed.entries()) {
      await openChunk(each, { key: keys[i]!, plainSizeBytes: chunks[i]!.length });
    }
  });
  const ratio = (total(sealed) / bytes).toFixed(3);
  print(`key ${keyRate}, seal ${sealRate} (ratio ${ratio}), id ${idRate}, open ${openRate}`);
}

/** One chunk at a time, as a program waits for it: on this thread, and by way of the pool. */
async function benchWays(chunks: Buffer[]): Promise<void> {
  const pooled = promisify(zstdDecompress);
  const bytes = Buffer.concat(chunks.slice(0, 64));
  for (const sizeKiB of [16, 32, 64, 128, 256]) {
    const size = sizeKiB * KiB;
    const options = { chunkSize: size + 1 };
    const plains = Array.from({ length: Math.floor(bytes.length / size) }, (_, i) =>
      bytes.subarray(i * size, (i + 1) * size),
    );
    const frames = plains.map(plain => zstdCompressSync(plain, { chunkSize: 2 * size }));
    const here: number[] = [];
    const pool: number[] = [];
    for (const frame of frames) {
      let start = performance.now();
      zstdDecompressSync(frame, options);
      here.push(performance.now() - start);
      start = performance.now();
      await pooled(frame, options);
      pool.push(performance.now() - start);
    }
    print(
      `decompress ${sizeKiB} KiB: here ${medianMicros(here)}, in the pool ${medianMicros(pool)}`,
    );
  }
}

function medianMicros(waitsMs: number[]): string {
  waitsMs.sort((a, b) => a - b);
  return `${Math.round(waitsMs[waitsMs.length >> 1]! * 1000)} µs`;
}

const files = sampleFiles();
print(`${files.length} files, ${Math.round(total(files) / MiB)} MiB of ${folder}`);
const [cutRate, chunks] = await rated(total(files), () => chunksOf(files, 256 * KiB));
print(`chunk ${cutRate}`);
await benchSealing(chunks);
await benchWays(chunks);
await benchCompression(files);
