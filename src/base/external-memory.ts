/** When V8 collects garbage in processes whose memory is mostly buffers and zstd's tables. */

import { setFlagsFromString } from 'node:v8';

/**
 * For processes that move chunks. By default V8 starts a full collection for every 64 MiB of buffers,
 * whatever the heap holds; with this, buffers count as a part of the heap, and its growth decides.
 * Measured: a push of 200 MB makes 15 full collections instead of 68, takes a fifth less processor
 * time and 50 MB more memory; a daemon that serves a 2.3 GB disk through 256 MiB of decoded chunks
 * takes half the processor time, and 730 MB instead of 520 at the most.
 *
 * V8 reads the flag at each collection, so it may be set while it runs.
 */
export function collectBuffersWithTheHeap(): void {
  setFlagsFromString('--external-memory-accounted-in-global-limit');
}
