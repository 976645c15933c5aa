/**
 * zstd on whole chunks. Compression runs on the calling thread, which is a sealer's own (see
 * sealer-pool.ts); decompression in libuv's thread pool, unless it is about as short as the way to
 * the pool and back.
 *
 * Both directions hand zlib an output buffer in which everything fits: the result then comes in
 * one piece instead of 16 KiB at a time, and zstd decompresses straight into it.
 */

import { promisify } from 'node:util';
import {
  constants,
  type ZstdOptions,
  zstdCompressSync,
  zstdDecompress,
  zstdDecompressSync,
} from 'node:zlib';
import { assert } from '../base/assert.ts';
import { release } from '../base/external-memory.ts';
import { chunkSizeMaxBytes } from '../base/limits.ts';

const decompressInPool = promisify(zstdDecompress);

const level = 3;
/** A frame that asks for a larger window is refused before memory is taken for it. */
const windowLogMax = Math.log2(chunkSizeMaxBytes);
/** Up to this, in and out, it is decompressed on this thread; bench/seal.ts measures both ways. */
const decompressHereMaxBytes = 64 * 1024;

const badFrameCodes: ReadonlySet<string> = new Set([
  'ERR_BUFFER_TOO_LARGE', // more output than allowed
  'ERR_TRAILING_JUNK_AFTER_STREAM_END', // bytes after the frame
  'Z_BUF_ERROR', // the frame is cut short
]);

assert(Number.isInteger(windowLogMax), 'the largest chunk is a zstd window');

/**
 * One frame, or undefined if that saves less than 1/32: then decompressing costs more than it
 * brings.
 */
export function compress(plain: Buffer): Buffer | undefined {
  const frame = zstdCompressSync(plain, {
    // More than zstd.h's bound on what incompressible bytes grow to: had a frame just filled the
    // buffer, zlib would ask for the rest, and zstd would answer with a second, empty frame.
    chunkSize: plain.length + (plain.length >>> 8) + 64 + 1,
    params: { [constants.ZSTD_c_compressionLevel]: level },
    // Without it zstd would not know the end at the start, and would ask for a 2 MiB window.
    pledgedSrcSize: plain.length,
  });
  if (frame.length <= plain.length - plain.length / 32) return frame;
  release(frame);
  return undefined;
}

/**
 * At most `sizeMaxBytes`; holds no more than twice that and a window, whatever the frame says.
 * Throws what zlib throws: see isBadFrame.
 */
export async function decompress(frame: Buffer, sizeMaxBytes: number): Promise<Buffer> {
  const options: ZstdOptions = {
    chunkSize: Math.max(sizeMaxBytes + 1, constants.Z_MIN_CHUNK),
    maxOutputLength: sizeMaxBytes,
    rejectGarbageAfterEnd: true,
    params: { [constants.ZSTD_d_windowLogMax]: windowLogMax },
  };
  return Math.max(sizeMaxBytes, frame.length) <= decompressHereMaxBytes
    ? zstdDecompressSync(frame, options)
    : decompressInPool(frame, options);
}

/** Tells a frame that is not what it should be from a fault of this machine (no memory). */
export function isBadFrame(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  if (code === 'ZSTD_error_memory_allocation') return false;
  return code.startsWith('ZSTD_error_') || badFrameCodes.has(code);
}
