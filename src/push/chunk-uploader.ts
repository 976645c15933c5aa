/**
 * Plain chunks → sealed chunks in the store. A chunk whose key is known (from an earlier recipe of
 * this root, or earlier in this push) is neither compressed nor stored again.
 *
 * Sealing and storing run beside the caller, a bounded number at a time; `add` returns a promise
 * when the caller should wait. The first fault is kept and thrown by every later call.
 */

import type { ChunkId } from '../base/digest.ts';
import { Limiter } from '../base/limiter.ts';
import { chunkKey, sealChunk } from '../seal/seal.ts';
import { chunkObjectKey } from '../store/format.ts';
import type { ObjectStore } from '../store/object-store.ts';

export interface StoredChunk {
  id: ChunkId;
  key: Buffer;
  plainSizeBytes: number;
  sealedSizeBytes: number;
}

/** A chunk on its way; id and sealed size are there once `finish` has resolved. */
export interface ChunkTicket {
  key: Buffer;
  plainSizeBytes: number;
  stored: StoredChunk | undefined;
}

export interface UploaderOptions {
  chunks: ObjectStore;
  salt: Buffer;
  /** Chunks that the root holds, by key in hexadecimal. */
  known: ReadonlyMap<string, StoredChunk>;
  chunksInFlightMax: number;
  /** Store every chunk again, whatever is there: mends a damaged store. */
  rewrite: boolean;
  signal?: AbortSignal | undefined;
}

export class ChunkUploader {
  readonly #options: UploaderOptions;
  readonly #limiter: Limiter;
  readonly #tickets = new Map<string, ChunkTicket>();
  readonly #running = new Set<Promise<void>>();
  #fault: { error: unknown } | undefined;
  /** Distinct chunks of this push that the store did not have. */
  newChunks = 0;
  newStoredBytes = 0;

  constructor(options: UploaderOptions) {
    this.#options = options;
    this.#limiter = new Limiter(options.chunksInFlightMax);
  }

  /** Takes the buffer over. `wait` is back-pressure: await it before the next call. */
  add(plain: Buffer): { ticket: ChunkTicket; wait: Promise<void> | undefined } {
    this.#throwFault();
    this.#options.signal?.throwIfAborted();
    const key = chunkKey(plain, this.#options.salt);
    const name = key.toString('hex');
    const earlier = this.#tickets.get(name);
    if (earlier !== undefined) return { ticket: earlier, wait: undefined };
    const known = this.#options.rewrite ? undefined : this.#options.known.get(name);
    const ticket: ChunkTicket = { key, plainSizeBytes: plain.length, stored: known };
    this.#tickets.set(name, ticket);
    if (known !== undefined) return { ticket, wait: undefined };
    const place = this.#limiter.acquire();
    if (place === undefined) {
      this.#start(plain, ticket);
      return { ticket, wait: undefined };
    }
    return { ticket, wait: place.then(() => this.#start(plain, ticket)) };
  }

  /** Waits until everything is stored. */
  async finish(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
    this.#throwFault();
  }

  /** Distinct chunks of this push, known ones included. */
  get distinctChunks(): Iterable<ChunkTicket> {
    return this.#tickets.values();
  }

  #start(plain: Buffer, ticket: ChunkTicket): void {
    const work = this.#store(plain, ticket)
      .catch(error => {
        this.#fault ??= { error };
      })
      .finally(() => {
        this.#limiter.release();
        this.#running.delete(work);
      });
    this.#running.add(work);
  }

  async #store(plain: Buffer, ticket: ChunkTicket): Promise<void> {
    if (this.#fault !== undefined) return;
    const { chunks, rewrite, signal } = this.#options;
    const { id, sealed } = await sealChunk(plain, ticket.key);
    const outcome = await chunks.put(chunkObjectKey(id), sealed, {
      ifAbsent: !rewrite,
      ...(signal === undefined ? {} : { signal }),
    });
    if (outcome === 'created') {
      this.newChunks++;
      this.newStoredBytes += sealed.length;
    }
    ticket.stored = {
      id,
      key: ticket.key,
      plainSizeBytes: plain.length,
      sealedSizeBytes: sealed.length,
    };
  }

  #throwFault(): void {
    if (this.#fault !== undefined) throw this.#fault.error;
  }
}
