/**
 * Seals chunks on threads of its own: a push's own thread reads, cuts and hashes meanwhile. Node's
 * asynchronous zstd is no way to that: it builds a stream for each chunk on the calling thread,
 * which has to encrypt the result as well.
 */

import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { assert } from '../base/assert.ts';
import type { SealedChunk } from './seal.ts';
import type { SealAnswer, SealRequest } from './sealer-worker.ts';

/** More than this many threads outrun one that cuts, and every store. */
const threadsMax = 8;

/** Seals chunks; who has one disposes of it. */
export interface Sealer extends AsyncDisposable {
  /** As sealChunk; takes the buffer over, whose contents may be gone when it returns. */
  seal(plain: Buffer, key: Uint8Array): Promise<SealedChunk>;
}

interface Thread {
  worker: Worker;
  /** In the order of asking, which is that of the answers. */
  waiting: PromiseWithResolvers<SealedChunk>[];
  fault: Error | undefined;
}

export class SealerPool implements Sealer {
  readonly #threads: Thread[] = [];
  readonly #threadsMax = Math.min(availableParallelism(), threadsMax);

  /** The number that wait is the caller's to bound: each holds its chunk. */
  seal(plain: Buffer, key: Uint8Array): Promise<SealedChunk> {
    const thread = this.#leastBusy();
    if (thread.fault !== undefined) return Promise.reject(thread.fault);
    const answer = Promise.withResolvers<SealedChunk>();
    thread.waiting.push(answer);
    // A view of something larger is copied on its way; what stands alone moves.
    const { buffer } = plain;
    assert(buffer instanceof ArrayBuffer, 'a chunk is not shared between threads');
    const request: SealRequest = { plain, key };
    thread.worker.postMessage(request, plain.length === buffer.byteLength ? [buffer] : []);
    return answer.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()));
  }

  /** A new thread as long as all are busy and there may be more. */
  #leastBusy(): Thread {
    let least: Thread | undefined;
    for (const thread of this.#threads) {
      if (least === undefined || thread.waiting.length < least.waiting.length) least = thread;
    }
    const enough = least?.waiting.length === 0 || this.#threads.length >= this.#threadsMax;
    return least !== undefined && enough ? least : this.#startThread();
  }

  #startThread(): Thread {
    const worker = new Worker(new URL('./sealer-worker.ts', import.meta.url));
    const thread: Thread = { worker, waiting: [], fault: undefined };
    worker.on('message', ({ id, sealed }: SealAnswer) => {
      const bytes = Buffer.from(sealed.buffer, sealed.byteOffset, sealed.byteLength);
      thread.waiting.shift()?.resolve({ id, sealed: bytes });
    });
    const fail = (error: Error): void => {
      thread.fault ??= error;
      for (const { reject } of thread.waiting.splice(0)) reject(thread.fault);
    };
    worker.on('error', fail);
    worker.on('exit', () => fail(new Error('The thread that seals chunks has ended')));
    this.#threads.push(thread);
    return thread;
  }
}
