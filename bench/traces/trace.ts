/** Requests for chunks in the order in which a worker's cache sees them, chunks as small numbers. */

import type { ChunkId } from '../../src/base/digest.ts';
import { blockSizeBytes } from '../../src/base/limits.ts';
import { Lru } from '../policies/lru.ts';
import type { TraceChunk } from './population.ts';

export interface Trace {
  readonly name: string;
  /** Indices into `ids` and `sizes`. */
  readonly requests: Uint32Array;
  readonly ids: readonly ChunkId[];
  /** Bytes on the disk, in whole blocks. */
  readonly sizes: Uint32Array;
  /** Of all its chunks, each once. */
  readonly footprintBytes: number;
  /** Requests before which something happens: where a burst begins. */
  readonly marks: readonly number[];
}

export class TraceBuilder {
  readonly #numbers = new Map<ChunkId, number>();
  readonly #sizes: number[] = [];
  readonly #requests: number[] = [];
  readonly #marks: number[] = [];

  add(chunks: readonly TraceChunk[]): void {
    for (const { id, sizeBytes } of chunks) {
      let number = this.#numbers.get(id);
      if (number === undefined) {
        number = this.#sizes.length;
        this.#numbers.set(id, number);
        this.#sizes.push(Math.ceil(sizeBytes / blockSizeBytes) * blockSizeBytes);
      }
      this.#requests.push(number);
    }
  }

  mark(): void {
    this.#marks.push(this.#requests.length);
  }

  build(name: string): Trace {
    return {
      name,
      requests: Uint32Array.from(this.#requests),
      ids: [...this.#numbers.keys()],
      sizes: Uint32Array.from(this.#sizes),
      footprintBytes: this.#sizes.reduce((sum, size) => sum + size, 0),
      marks: this.#marks,
    };
  }
}

/** What is left of a trace's requests behind a memory, least recently used, of so many bytes. */
export function behindMemory(trace: Trace, sizeMaxBytes: number): Trace {
  const memory = new Lru({ sizes: trace.sizes, sizeMaxBytes });
  const marks: number[] = [];
  const marked = new Set(trace.marks);
  let kept = 0;
  const requests = trace.requests.filter((chunk, at) => {
    if (marked.has(at)) marks.push(kept);
    if (memory.request(chunk)) return false;
    kept++;
    return true;
  });
  return { ...trace, requests, marks };
}
