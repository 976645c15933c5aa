/**
 * The nearest tier, L1: sealed chunks on the worker's disk, shared by all its mounts.
 *
 * Invariants: a read never waits for a write, an eviction or the scan at start, nor longer than a
 * second for the disk. The bytes on the disk stay within the bound (of what this process knows: two
 * daemons in one folder damage nothing, but each has its own bound), but for a sixteenth while what
 * earlier processes left is not known yet. No fault of the disk fails more than a get, and no put.
 */

import { setImmediate as nextTurn } from 'node:timers/promises';
import type { ChunkId } from '../base/digest.ts';
import { describeError, errnoOf, ImgstoreError, ioError } from '../base/errors.ts';
import { Limiter } from '../base/limiter.ts';
import { cacheWritesPendingMaxBytes, diskCacheSizeMinBytes } from '../base/limits.ts';
import type { Log } from '../base/log.ts';
import { type CachedFile, CacheFolder } from './cache-folder.ts';
import { CacheIndex } from './cache-index.ts';
import type { ChunkSource, GetOptions, SealedHit } from './chunk-source.ts';
import { Overdue } from './overdue.ts';

export interface DiskCacheOptions {
  folder: string;
  /** At least `diskCacheSizeMinBytes`. */
  sizeMaxBytes: number;
  log: Log;
  /** Milliseconds since 1970. */
  now?: () => number;
}

export interface DiskCacheStats {
  entries: number;
  /** On the disk, in whole blocks. */
  bytes: number;
  sizeMaxBytes: number;
  /** Offers that were not taken: the queue was full, the disk failed, or the scan takes long. */
  declined: number;
  evicted: number;
  scanning: boolean;
  /** The latest write failed: meanwhile nothing new is kept. */
  failing: boolean;
}

/** Of the four threads that Node has for files, half are left to reads. */
const writesAtOnceMax = 2;
/** Recency across restarts is that coarse: a system call at an entry's first use, and one an hour. */
const touchIntervalMs = 60 * 60 * 1000;
const touchesAtOnceMax = 8;
/** Entries that the scan adds to the index before reads have their turn: about 1 ms. */
const addedPerTurnMax = 1000;
/** What may be written before it is known what there is to evict for it: a share of the bound. */
const unknownShare = 1 / 16;
/** A disk that is that slow is no better than the next tier, and it may never answer. */
const readWaitMaxMs = 1000;
/** Above what a slow disk takes for the writes that are under way; the others are let be. */
const closeWaitMaxMs = 5000;
/** What a disk says of a file that it cannot read, and not of its own state or this process'. */
const damageErrnos: readonly (string | undefined)[] = ['EIO', 'EUCLEAN', 'EBADMSG'];
/** A disk that is now full, now not, is not worth two lines every ten seconds. */
const warnIntervalMs = 60 * 60 * 1000;
/** After a failed write: long enough not to hammer a full disk, short enough to recover from it. */
const pauseMs = 10_000;

export class DiskCache implements ChunkSource {
  readonly tier = 'l1';
  /** Resolves when what earlier processes left is known. */
  readonly ready: Promise<void>;
  readonly #location: string;
  readonly #folder: CacheFolder;
  readonly #index: CacheIndex;
  readonly #log: Log;
  readonly #now: () => number;
  readonly #writers = new Limiter(writesAtOnceMax);
  /** Chunks that were taken but are not on the disk yet: their reads are answered from here. */
  readonly #writing = new Map<ChunkId, Buffer>();
  /** What was written while the scan was under way; it comes after what the scan finds. */
  readonly #early = new Map<ChunkId, number>();
  readonly #overdue = new Overdue(readWaitMaxMs);
  readonly #background = new Set<Promise<void>>();
  #earlyBytes = 0;
  #pendingBytes = 0;
  #touching = 0;
  #declined = 0;
  #evicted = 0;
  #scanning = true;
  #closed = false;
  #failing = false;
  #warned = false;
  #warnedMs = -Infinity;
  #pausedUntilMs = 0;

  constructor(options: DiskCacheOptions) {
    if (!(options.sizeMaxBytes >= diskCacheSizeMinBytes)) {
      throw new ImgstoreError(
        'USAGE',
        `Cannot use a cache of ${options.sizeMaxBytes} bytes: it is too small`,
        { hint: `Give it ${diskCacheSizeMinBytes} bytes or more.` },
      );
    }
    this.#location = options.folder;
    this.#folder = new CacheFolder(options.folder);
    this.#index = new CacheIndex(options.sizeMaxBytes);
    this.#log = options.log;
    this.#now = options.now ?? Date.now;
    this.ready = this.#scan();
    this.#run(this.ready);
  }

  async get(id: ChunkId, { sizeBytes, signal }: GetOptions): Promise<SealedHit | undefined> {
    signal?.throwIfAborted();
    const pending = this.#writing.get(id);
    if (pending?.length === sizeBytes) return { sealed: pending, tier: this.tier, verified: true };
    const entry = this.#index.use(id);
    // Another size: the recipe that asks is wrong, or the file is torn and the next put mends it.
    if (entry === undefined ? !this.#scanning : entry.sizeBytes !== sizeBytes) return undefined;
    const sealed = await this.#read(id, sizeBytes);
    if (typeof sealed === 'string') {
      // Somebody else removed or cut it. One that was written anew meanwhile is another entry.
      if (entry !== undefined && this.#index.peek(id) === entry) this.#index.delete(id);
      return undefined;
    }
    if (entry !== undefined) this.#touch(id);
    return { sealed, tier: this.tier, verified: false };
  }

  async put(id: ChunkId, sealed: Buffer): Promise<void> {
    const known = this.#index.peek(id)?.sizeBytes ?? this.#early.get(id);
    if (this.#writing.has(id) || known === sealed.length) return;
    const full = this.#pendingBytes + sealed.length > cacheWritesPendingMaxBytes;
    const earlyBytes = this.#scanning ? this.#earlyBytes + sealed.length : 0;
    const tooEarly = earlyBytes > this.#index.sizeMaxBytes * unknownShare;
    if (full || tooEarly || this.#closed || this.#isPaused()) {
      this.#declined++;
      return;
    }
    this.#earlyBytes = earlyBytes;
    this.#writing.set(id, sealed);
    this.#pendingBytes += sealed.length;
    const write = this.#writers.run(() => this.#write(id, sealed));
    this.#run(write);
    await write;
  }

  async drop(id: ChunkId): Promise<void> {
    this.#writing.delete(id);
    this.#early.delete(id);
    this.#index.delete(id);
    await this.#remove(id);
  }

  /** Not longer than `closeWaitMaxMs`: a disk that does not answer must not keep a daemon from ending. */
  async close(): Promise<void> {
    this.#closed = true;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>(resolve => {
      timer = setTimeout(resolve, closeWaitMaxMs);
    });
    await Promise.race([this.#drain(), late]).finally(() => clearTimeout(timer));
    if (this.#background.size === 0) return;
    this.#log('warn', `The cache ${this.#location} is left: its disk does not answer`);
  }

  stats(): DiskCacheStats {
    return {
      entries: this.#index.entries,
      bytes: this.#index.bytes,
      sizeMaxBytes: this.#index.sizeMaxBytes,
      declined: this.#declined,
      evicted: this.#evicted,
      scanning: this.#scanning,
      failing: this.#failing,
    };
  }

  async #drain(): Promise<void> {
    while (this.#background.size > 0) await Promise.all(this.#background);
  }

  async #read(id: ChunkId, sizeBytes: number): Promise<Buffer | 'absent' | 'short'> {
    const what = () => `Cannot read chunk ${id} from the cache ${this.#location}`;
    const late = `the disk has not answered for ${readWaitMaxMs} ms`;
    const fault = () => new ImgstoreError('IO', `${what()}: ${late}`);
    // One that waits for ever holds one of the few threads that Node has for files.
    if (this.#overdue.count > 0) throw fault();
    try {
      return await this.#overdue.watch(this.#folder.read(id, sizeBytes), fault);
    } catch (error) {
      if (error instanceof ImgstoreError) throw error;
      // Gone, so that the next offer is taken and mends it.
      if (damageErrnos.includes(errnoOf(error))) await this.drop(id);
      throw ioError(what(), error);
    }
  }

  async #write(id: ChunkId, sealed: Buffer): Promise<void> {
    try {
      if (this.#isPaused()) this.#declined++;
      else await this.#writeNow(id, sealed);
    } catch (error) {
      this.#fail(error);
      // The disk is smaller than the bound. Make room, or the cache would stay as it is for ever.
      const full = ['ENOSPC', 'EDQUOT'].includes(errnoOf(error) ?? '');
      if (full) await this.#evict(this.#index.shrink(this.#index.bytes / 16));
    } finally {
      this.#pendingBytes -= sealed.length;
      if (this.#writing.get(id) === sealed) this.#writing.delete(id);
    }
  }

  async #writeNow(id: ChunkId, sealed: Buffer): Promise<void> {
    await this.#folder.write(id, sealed);
    if (this.#failing) {
      this.#failing = false;
      if (this.#warned) this.#log('info', `The cache ${this.#location} keeps chunks again`);
    }
    if (this.#writing.get(id) !== sealed) {
      // Dropped while it was being written.
      await this.#remove(id);
    } else if (this.#scanning) {
      this.#early.set(id, sealed.length);
    } else {
      await this.#evict(this.#index.add(id, { sizeBytes: sealed.length, touchedMs: 0 }));
    }
  }

  /** Reads go on, and the next tier has everything: it is worth one warning. */
  #fail(error: unknown): void {
    if (errnoOf(error) === undefined) throw error;
    this.#pausedUntilMs = this.#now() + pauseMs;
    if (this.#failing) return;
    this.#failing = true;
    this.#warned = this.#now() - this.#warnedMs >= warnIntervalMs;
    if (!this.#warned) return;
    this.#warnedMs = this.#now();
    const state = describeError(ioError(`Cannot write to the cache ${this.#location}`, error));
    this.#log('warn', `${state} Meanwhile no new chunks are kept.`);
  }

  async #scan(): Promise<void> {
    const evicted: ChunkId[] = [];
    try {
      await this.#folder.prepare(this.#now());
      let added = 0;
      for (const { id, sizeBytes, modifiedMs, used } of oldestFirst(await this.#scanFiles())) {
        evicted.push(...this.#index.add(id, { sizeBytes, touchedMs: used ? modifiedMs : 0 }));
        if (++added % addedPerTurnMax === 0) await nextTurn();
      }
    } catch (error) {
      this.#fail(error);
    }
    this.#scanning = false;
    for (const [id, sizeBytes] of this.#early) {
      evicted.push(...this.#index.add(id, { sizeBytes, touchedMs: 0 }));
    }
    this.#early.clear();
    await this.#evict(evicted);
  }

  async #scanFiles(): Promise<CachedFile[]> {
    const files: CachedFile[] = [];
    for await (const file of this.#folder.scan(error => this.#fail(error))) {
      if (this.#closed) break;
      files.push(file);
    }
    return files;
  }

  /** One after the other: a writer that evicts keeps its place, and so deletions are bounded. */
  async #evict(ids: readonly ChunkId[]): Promise<void> {
    for (const id of ids) {
      // After a scan with a smaller bound there may be many; the next start finds them again.
      if (this.#closed) return;
      // One that came back meanwhile is in its place.
      if (this.#index.peek(id) !== undefined || this.#writing.has(id)) continue;
      this.#evicted++;
      await this.#remove(id);
    }
  }

  async #remove(id: ChunkId): Promise<void> {
    await this.#folder.remove(id).catch((error: unknown) => this.#fail(error));
  }

  #touch(id: ChunkId): void {
    const entry = this.#index.peek(id);
    const nowMs = this.#now();
    if (entry === undefined || nowMs - entry.touchedMs < touchIntervalMs) return;
    if (this.#closed || this.#touching === touchesAtOnceMax) return;
    entry.touchedMs = nowMs;
    this.#touching++;
    // It may be gone, or the disk read-only; the order of evictions is no more than a guess.
    const touch = this.#folder.touch(id, nowMs).catch(() => {});
    this.#run(touch.finally(() => this.#touching--));
  }

  #isPaused(): boolean {
    // A clock that was set back must not make it longer.
    const leftMs = this.#pausedUntilMs - this.#now();
    return leftMs > 0 && leftMs <= pauseMs;
  }

  /** Keeps track of work that nobody waits for but close. */
  #run(work: Promise<void>): void {
    const tracked = work.finally(() => this.#background.delete(tracked));
    this.#background.add(tracked);
  }
}

/** By the minute of their last use: sorting a million files at once would hold up reads. */
function* oldestFirst(files: readonly CachedFile[]): Generator<CachedFile, void, undefined> {
  const byMinute = new Map<number, CachedFile[]>();
  for (const file of files) {
    const minute = Math.floor(file.modifiedMs / 60_000);
    const those = byMinute.get(minute);
    if (those === undefined) byMinute.set(minute, [file]);
    else those.push(file);
  }
  for (const minute of [...byMinute.keys()].sort((a, b) => a - b)) yield* byMinute.get(minute)!;
}
