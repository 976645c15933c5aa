/**
 * Plain chunks → sealed chunks in the store. A chunk whose key is known (from an earlier recipe of
 * this root, or earlier in this push) is neither compressed nor stored again.
 *
 * Sealing and storing run beside the caller, a bounded number at a time; `backlog` tells the caller
 * when to wait. Invariants: the first fault is kept, nothing new begins after it, and every later
 * call throws it; no promise is left behind that could reject unheard.
 */

import type { ChunkId } from '../base/digest.ts';
import { release } from '../base/external-memory.ts';
import { Limiter } from '../base/limiter.ts';
import { chunkKey } from '../seal/seal.ts';
import type { Sealer } from '../seal/sealer-pool.ts';
import { chunkObjectKey } from '../store/format.ts';
import type { ObjectStore } from '../store/object-store.ts';

export interface StoredChunk {
  id: ChunkId;
  key: Buffer;
  plainSizeBytes: number;
  sealedSizeBytes: number;
}

/** A chunk on its way; `stored` is there for all of them once `finish` has resolved. */
export interface ChunkTicket {
  readonly key: Buffer;
  readonly plainSizeBytes: number;
  readonly stored: StoredChunk | undefined;
}

export interface UploaderOptions {
  chunks: Pick<ObjectStore, 'put' | 'get'>;
  /** The uploader's own: disposed of with it. */
  sealer: Sealer;
  salt: Buffer;
  /** Chunks that need not be stored, by key in hexadecimal. */
  known: ReadonlyMap<string, StoredChunk>;
  chunksInFlightMax: number;
  /** Replace what the store has: mends a damaged one. */
  rewrite: boolean;
  signal?: AbortSignal | undefined;
}

/** What cutters need of an uploader. */
export type ChunkSink = Pick<ChunkUploader, 'add' | 'backlog'>;

interface Ticket extends ChunkTicket {
  stored: StoredChunk | undefined;
}

export class ChunkUploader implements AsyncDisposable {
  readonly #options: UploaderOptions;
  readonly #limiter: Limiter;
  readonly #tickets = new Map<string, Ticket>();
  /** One a chunk that is added and not stored; they never reject. */
  readonly #pending = new Set<Promise<void>>();
  #backlog: Promise<void> | undefined;
  #fault: { error: unknown } | undefined;
  /** Distinct chunks of this push that were put and were not there, or were replaced. */
  newChunks = 0;
  newStoredBytes = 0;

  constructor(options: UploaderOptions) {
    this.#options = options;
    this.#limiter = new Limiter(options.chunksInFlightMax);
  }

  /**
   * Takes the buffer over: 1 to chunkSizeMaxBytes, not to change any more. Throws the first fault,
   * or the reason of the signal.
   */
  add(plain: Buffer): ChunkTicket {
    this.#throwFault();
    const { known, salt, signal } = this.#options;
    signal?.throwIfAborted();
    const key = chunkKey(plain, salt);
    const name = key.toString('hex');
    const earlier = this.#tickets.get(name);
    if (earlier !== undefined) return earlier;
    const ticket: Ticket = { key, plainSizeBytes: plain.length, stored: known.get(name) };
    this.#tickets.set(name, ticket);
    if (ticket.stored === undefined) this.#start(plain, ticket);
    return ticket;
  }

  /** The ticket of a chunk that need not be stored: a known one, or one that was added before. */
  recall(key: Buffer): ChunkTicket | undefined {
    const name = key.toString('hex');
    const earlier = this.#tickets.get(name);
    if (earlier !== undefined) return earlier;
    const stored = this.#options.known.get(name);
    if (stored === undefined) return undefined;
    // With the recipe's own key: the given one may keep something large in memory.
    const ticket: Ticket = { key: stored.key, plainSizeBytes: stored.plainSizeBytes, stored };
    this.#tickets.set(name, ticket);
    return ticket;
  }

  /**
   * Undefined if all chunks that were added are under way or done; else resolves when they are.
   * A caller that waits for it holds no more than what it added since it last looked.
   */
  get backlog(): Promise<void> | undefined {
    return this.#backlog;
  }

  /** Waits until everything is stored. */
  async finish(): Promise<void> {
    await Promise.all(this.#pending);
    this.#throwFault();
  }

  /** Gives up what has not begun and waits for the rest: nothing is put afterwards. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#fault ??= { error: new Error('The upload is over') };
    await Promise.all(this.#pending);
    await this.#options.sealer[Symbol.asyncDispose]();
  }

  #start(plain: Buffer, ticket: Ticket): void {
    const place = this.#limiter.acquire();
    if (place !== undefined) this.#wait(place);
    const work = this.#store(plain, ticket, place)
      .catch((error: unknown) => {
        this.#fault ??= { error };
      })
      .finally(() => {
        this.#limiter.release();
        this.#pending.delete(work);
      });
    this.#pending.add(work);
  }

  /** Places are given in the order of asking, so who has the latest waits for all before it. */
  #wait(place: Promise<void>): void {
    const backlog = place.then(() => {
      if (this.#backlog === backlog) this.#backlog = undefined;
    });
    this.#backlog = backlog;
  }

  async #store(plain: Buffer, ticket: Ticket, place: Promise<void> | undefined): Promise<void> {
    if (place !== undefined) await place;
    if (this.#fault !== undefined) return;
    const { chunks, sealer, rewrite, signal } = this.#options;
    signal?.throwIfAborted();
    const { id, sealed } = await sealer.seal(plain, ticket.key);
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
      plainSizeBytes: ticket.plainSizeBytes,
      sealedSizeBytes: sealed.length,
    };
    release(sealed);
  }

  #throwFault(): void {
    if (this.#fault !== undefined) throw this.#fault.error;
  }
}
