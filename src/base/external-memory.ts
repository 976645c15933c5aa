/** When V8 collects garbage in processes whose memory is mostly buffers and zstd's tables. */

import { setFlagsFromString } from 'node:v8';

/**
 * For processes that move chunks. By default V8 starts a full collection for every 64 MiB of buffers,
 * whatever the heap holds; with this, buffers count as a part of the heap, and its growth decides.
 * A push of 200 MB makes 15 full collections instead of 68; docs/BENCHMARKS.md has what that saves
 * in a push and in the daemon, and the memory that it costs.
 *
 * V8 reads the flag at each collection, so it may be set while it runs.
 */
export function collectBuffersWithTheHeap(): void {
  setFlagsFromString('--external-memory-accounted-in-global-limit');
}

/**
 * Gives the memory of a buffer back at once instead of at some collection: a thread that moves many
 * large ones would hold hundreds of MiB until V8 saw a reason. Nobody may hold a view of it any more.
 * Buffers in Node's shared pool are left alone.
 */
export function release(bytes: Uint8Array): void {
  const { buffer } = bytes;
  const isShared = buffer.byteLength <= Buffer.poolSize || !(buffer instanceof ArrayBuffer);
  if (!isShared && !buffer.detached) buffer.transfer(0);
}
