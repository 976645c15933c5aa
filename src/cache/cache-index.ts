/**
 * What the worker's cache holds, and what goes when it is full: S3-FIFO (Yang, Zhang, Qiu, Yue,
 * Rashmi: FIFO Queues are All You Need for Cache Eviction, SOSP 2023), counted in bytes.
 *
 * A new entry is on trial in the last tenth. If it is used there it moves to the main queue when its
 * turn comes, else it goes, and its id is remembered: one that comes back soon goes to the main queue
 * at once. There an entry that was used has another turn, up to three. So a burst of images that start
 * once passes through a tenth and leaves the base that every start reads, and a use changes nothing
 * but a count. docs/format/worker-cache.md compares it with others and says what an entry costs.
 *
 * In one thing it differs from the paper, by the replay in bench/l1.ts: one use on trial is enough,
 * not two. Uses in quick succession do not get here, since memory answers them.
 */

import type { ChunkId } from '../base/digest.ts';
import { blockSizeBytes } from '../base/limits.ts';
import { Fifo, type Sized } from './fifo.ts';

export interface CacheEntry {
  readonly sizeBytes: number;
  /** When the file's time was last set to that of a use; 0 if that never was. */
  touchedMs: number;
}

const trialShare = 0.1;
/** With the trial's tenth it spans the cache: whatever set of chunks fits gets in when used again. */
const rememberedShare = 0.9;
const usesMax = 3;
/**
 * So many entries may pass before one goes, used or not: 10 µs. Else the first eviction from a cache
 * in which all was used would pass over all of it, three times.
 */
const passedMax = 100;

interface KeptEntry extends CacheEntry, Sized {
  /** Since it came to where it is, 0 to usesMax. */
  uses: number;
}

export class CacheIndex {
  readonly sizeMaxBytes: number;
  readonly #trial = new Fifo<KeptEntry>();
  readonly #main = new Fifo<KeptEntry>();
  readonly #remembered = new Fifo<Sized>();

  constructor(sizeMaxBytes: number) {
    this.sizeMaxBytes = sizeMaxBytes;
  }

  get entries(): number {
    return this.#trial.size + this.#main.size;
  }

  /** On the disk, in whole blocks. */
  get bytes(): number {
    return this.#trial.bytes + this.#main.bytes;
  }

  peek(id: ChunkId): CacheEntry | undefined {
    return this.#find(id);
  }

  /** The entry; this counts as a use of it. */
  use(id: ChunkId): CacheEntry | undefined {
    const entry = this.#find(id);
    if (entry !== undefined && entry.uses < usesMax) entry.uses++;
    return entry;
  }

  /**
   * Adds or replaces an entry; one whose file was touched, for an earlier process, is past its trial.
   * Returns what has to go, which is the entry itself if it is large for this cache.
   */
  add(id: ChunkId, entry: CacheEntry): ChunkId[] {
    this.delete(id);
    const cameBack = this.#remembered.delete(id);
    const queue = cameBack || entry.touchedMs > 0 ? this.#main : this.#trial;
    queue.push(id, kept(entry));
    return this.#evictTo(this.sizeMaxBytes);
  }

  /** Takes out at least `sizeBytes`, or everything. */
  shrink(sizeBytes: number): ChunkId[] {
    return this.#evictTo(Math.max(0, this.bytes - sizeBytes));
  }

  delete(id: ChunkId): void {
    if (!this.#trial.delete(id)) this.#main.delete(id);
  }

  #find(id: ChunkId): KeptEntry | undefined {
    return this.#main.get(id) ?? this.#trial.get(id);
  }

  #evictTo(targetBytes: number): ChunkId[] {
    const evicted: ChunkId[] = [];
    while (this.bytes > targetBytes) evicted.push(this.#evictOne(trialShare * targetBytes));
    return evicted;
  }

  /** There is an entry. */
  #evictOne(trialMaxBytes: number): ChunkId {
    for (let passed = 0; ; passed++) {
      const onTrial = this.#trial.bytes > trialMaxBytes || this.#main.size === 0;
      const [id, entry] = (onTrial ? this.#trial : this.#main).shift()!;
      if (entry.uses === 0 || passed === passedMax) {
        if (onTrial) this.#remember(id, entry);
        return id;
      }
      // From its trial it moves on; in the main queue it has another turn.
      entry.uses = onTrial ? 0 : entry.uses - 1;
      this.#main.push(id, entry);
    }
  }

  #remember(id: ChunkId, { diskBytes }: Sized): void {
    this.#remembered.push(id, { diskBytes });
    while (this.#remembered.bytes > rememberedShare * this.sizeMaxBytes) this.#remembered.shift();
  }
}

function kept({ sizeBytes, touchedMs }: CacheEntry): KeptEntry {
  const diskBytes = Math.ceil(sizeBytes / blockSizeBytes) * blockSizeBytes;
  return { sizeBytes, diskBytes, touchedMs, uses: 0 };
}
