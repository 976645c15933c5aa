/**
 * Who fetches a chunk that the fleet does not have: one worker takes a lease and goes to the store,
 * the others wait until it has put the chunk here and says so. A lease is an item that a node makes only if it
 * is not there, and that goes by itself, unless it is renewed while the fetch is under way: a store
 * that is slow would be asked again by all who wait.
 *
 * Invariants: a lease is advice, not a lock. Who gets none and who waited in vain goes to the store,
 * so that a lost lease costs a fetch, and a worker that dies with one, or a node that makes them up,
 * a bounded wait. Waits are bounded in number too. A node for whose leases this worker waits in
 * vain, again and again, though the store is quick, is not asked for any for a while. While the store
 * is slow they all stay: that is when each fetch counts.
 */

import { sleepUnlessAborted } from '../../base/retry.ts';
import { isUnwanted, type Prefetch } from '../prefetch.ts';
import { CircuitBreaker, type Outcome } from './breaker.ts';
import { leaseKey } from './format.ts';
import type { CacheNode } from './node.ts';
import type { ShardedChunk } from './shard.ts';

export type LeaseNode = Pick<
  CacheNode,
  'name' | 'takesWrites' | 'note' | 'look' | 'markDone' | 'renew' | 'remove'
>;

export interface LeaseOptions {
  nowMs: () => number;
  /** 0 to below 1. */
  random: () => number;
  /** What is waited for another worker, on average. */
  waitMaxMs: number;
  /** Of one request to a node. */
  timeoutMs: number;
  /** Told what goes on that nobody waits for. */
  run: (work: Promise<void>) => void;
}

/** Another worker has the lease. To be passed to `wait`, once, or to `pass`. */
export interface TakenLease {
  readonly key: string;
  readonly node: LeaseNode;
  readonly end: (outcome: Outcome) => void;
  /** Whether the node's leases are given up by now. */
  readonly isDistrusted: () => boolean;
}

/** `unreadable`: nor would it be found if it were stored now. */
export type Look = Buffer | 'absent' | 'unreadable';

export interface LeaseStats {
  leasesWon: number;
  /** Waits that ended with the chunk out of the fleet: fetches that were saved. */
  leasesWaited: number;
  leasesInVain: number;
  /** Now. */
  leasesWaiting: number;
}

interface HeldLease {
  readonly node: LeaseNode;
  readonly prefetch: Prefetch | undefined;
  readonly wonMs: number;
  untilMs: number;
  isFetching: boolean;
  /** Nobody waits for the chunk any more. */
  readonly onAbort: () => void;
  readonly signal: AbortSignal | undefined;
}

/** A wait in vain of which it is not known yet whether somebody did fetch the chunk. */
interface Doubt {
  readonly sinceMs: number;
  readonly end: (outcome: Outcome) => void;
}

/** Each wait looks some ten times; more would keep this process from reading. */
const waitsMax = 256;
const pollFirstMs = 10;
const pollMaxMs = 160;
/** Then the chunk is looked for whatever its lease says: it may have come in another way. */
const blindPolls = 6;
/** Enough for the longest wait, whatever the clock does. */
const pollsMax = 64;
/** Longer than the store may take. */
const doubtMaxMs = 10_000;
/** A fetch that took less is no reason to wait in vain. */
const quickFetchMaxMs = 500;
/** The last second may be cut short: a worker that dies is waited for that long. */
const lifetimeSeconds = 2;
const renewEveryMs = 400;
/** Above any fetch, with all retries of the store. */
const renewMaxMs = 20_000;

export class Leases {
  readonly #options: LeaseOptions;
  /** By key, in the order in which they end. */
  readonly #held = new Map<string, HeldLease>();
  readonly #doubts = new Map<string, Doubt>();
  readonly #trust = new Map<string, CircuitBreaker>();
  readonly #counts = { leasesWon: 0, leasesWaited: 0, leasesInVain: 0 };
  #waiting = 0;
  #renewing: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: LeaseOptions) {
    this.#options = options;
  }

  /**
   * `won`: fetch it, then `settle`. `none`: fetch it; nobody is told. Of the nodes the first that
   * takes writes is asked, and the next one if it has no memory for it. That of a prefetch is not
   * renewed: it may stand in a queue, and others wait for the chunk. Rejects with the signal's reason
   * only.
   */
  async take(
    chunk: ShardedChunk,
    nodes: readonly LeaseNode[],
    signal: AbortSignal | undefined,
    prefetch?: Prefetch,
  ): Promise<'won' | 'none' | TakenLease> {
    this.#forgetEnded();
    const key = leaseKey(chunk.id, chunk.sizeBytes, chunk);
    // It was fetched just now, and that failed, or it was dropped: no other worker fetches it.
    if (this.#held.has(key)) return 'won';
    if (this.#waiting >= waitsMax) return 'none';
    for (const node of nodes) {
      const trust = this.#trustIn(node);
      const end = node.takesWrites ? trust.begin() : undefined;
      if (end === undefined) continue;
      const { opened } = trust;
      let answer: 'won' | 'taken' | 'refused' | 'failed' = 'failed';
      try {
        answer = await this.#note(key, node, signal, prefetch);
      } finally {
        if (answer !== 'taken') end('unknown');
      }
      if (answer === 'won') return answer;
      if (answer === 'failed') return 'none';
      const isDistrusted = () => trust.opened > opened;
      if (answer === 'taken') return { key, node, end, isDistrusted };
    }
    return 'none';
  }

  /**
   * Looks again and again for what the other worker stores. Undefined: it is to be fetched, and
   * settled, after all. Rejects with the signal's reason, or as `look` does.
   */
  async wait(
    taken: TakenLease,
    look: () => Promise<Look>,
    signal: AbortSignal | undefined,
  ): Promise<Buffer | undefined> {
    this.#waiting++;
    try {
      const found = await this.#poll(taken, look, signal);
      if (found === 'in vain') {
        this.#counts.leasesInVain++;
        this.#doubt(taken);
        return undefined;
      }
      if (found !== undefined) this.#counts.leasesWaited++;
      taken.end(found === undefined ? 'unknown' : 'good');
      return found;
    } catch (error) {
      taken.end('unknown');
      throw error;
    } finally {
      this.#waiting--;
    }
  }

  /** Instead of `wait`. */
  pass(taken: TakenLease): void {
    taken.end('unknown');
  }

  /** To be called when a chunk has come from the store: if it was quick, it was waited for in vain. */
  arrived(chunk: ShardedChunk): void {
    const { nowMs, waitMaxMs } = this.#options;
    const quickMs = Math.min(waitMaxMs / 2, quickFetchMaxMs);
    const key = leaseKey(chunk.id, chunk.sizeBytes, chunk);
    const doubt = this.#doubts.get(key);
    if (doubt === undefined) return;
    this.#doubts.delete(key);
    doubt.end(nowMs() - doubt.sinceMs < quickMs ? 'bad' : 'unknown');
  }

  /** To be called when a chunk was stored, or will not be: then others may fetch it. */
  async settle(chunk: ShardedChunk, isStored: boolean): Promise<void> {
    const key = leaseKey(chunk.id, chunk.sizeBytes, chunk);
    const held = this.#held.get(key);
    if (held === undefined) return;
    held.signal?.removeEventListener('abort', held.onAbort);
    held.isFetching = false;
    // What is stored is found before the lease is asked for. If that went now, who found nothing
    // just before would get it.
    if (!isStored) await this.#release(key, held);
    else await held.node.markDone(key, { lifetimeSeconds, timeoutMs: this.#options.timeoutMs });
  }

  /** Renews none any more: they end by themselves. */
  close(): void {
    this.#closed = true;
    clearInterval(this.#renewing);
  }

  stats(): LeaseStats {
    return { ...this.#counts, leasesWaiting: this.#waiting };
  }

  /** Who gives up last finds what those stored who gave up first: chance spreads them. */
  async #poll(
    { key, node, isDistrusted }: TakenLease,
    look: () => Promise<Look>,
    signal: AbortSignal | undefined,
  ): Promise<Buffer | undefined | 'in vain'> {
    const { nowMs, random, waitMaxMs, timeoutMs } = this.#options;
    const untilMs = nowMs() + waitMaxMs * (0.75 + random() / 2);
    for (let poll = 0; poll < pollsMax && nowMs() < untilMs; poll++) {
      const longestMs = Math.min(pollFirstMs * 2 ** poll, pollMaxMs);
      await sleepUnlessAborted(longestMs * (0.5 + random() / 2), signal);
      if (isDistrusted()) return undefined;
      // One request, where to look for the chunk takes one to each of its nodes.
      const isDue = poll % blindPolls === blindPolls - 1;
      if ((await node.look(key, timeoutMs)) === 'noted' && !isDue) continue;
      const found = await look();
      if (Buffer.isBuffer(found)) return found;
      if (found === 'unreadable' || isDistrusted()) return undefined;
      // Given up by who had it, or it has ended: one of those that wait goes on.
      if ((await this.#note(key, node, signal)) === 'won') return undefined;
    }
    const found = await look();
    return Buffer.isBuffer(found) ? found : 'in vain';
  }

  async #note(
    key: string,
    node: LeaseNode,
    signal: AbortSignal | undefined,
    prefetch?: Prefetch,
  ): Promise<'won' | 'taken' | 'refused' | 'failed'> {
    const { nowMs, timeoutMs } = this.#options;
    const answer = await node.note(key, { lifetimeSeconds, timeoutMs });
    if (answer !== 'noted') return answer;
    const onAbort = () => this.#options.run(this.#release(key, held));
    const wonMs = nowMs();
    const untilMs = wonMs + 1000 * lifetimeSeconds;
    const held = { node, prefetch, wonMs, untilMs, isFetching: true, onAbort, signal };
    this.#held.set(key, held);
    if (!this.#closed) this.#renewing ??= setInterval(() => this.#renew(), renewEveryMs).unref();
    this.#counts.leasesWon++;
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted === true) onAbort();
    signal?.throwIfAborted();
    return 'won';
  }

  #renew(): void {
    const { nowMs, timeoutMs, run } = this.#options;
    const now = nowMs();
    const fetching = [...this.#held].filter(([, held]) => held.isFetching);
    for (const [key, held] of fetching) {
      if (now >= held.untilMs || now - held.wonMs >= renewMaxMs) held.isFetching = false;
      else if (!isUnwanted(held.prefetch)) {
        held.untilMs = now + 1000 * lifetimeSeconds;
        this.#held.delete(key);
        this.#held.set(key, held);
        run(held.node.renew(key, { lifetimeSeconds, timeoutMs }));
      }
    }
    if (fetching.length > 0) return;
    clearInterval(this.#renewing);
    this.#renewing = undefined;
  }

  async #release(key: string, held: HeldLease): Promise<void> {
    if (this.#held.get(key) !== held) return;
    this.#held.delete(key);
    await held.node.remove(key, this.#options.timeoutMs);
  }

  #doubt({ key, end }: TakenLease): void {
    this.#doubts.get(key)?.end('unknown');
    this.#doubts.delete(key);
    this.#doubts.set(key, { sinceMs: this.#options.nowMs(), end });
  }

  #forgetEnded(): void {
    const nowMs = this.#options.nowMs();
    for (const [key, { sinceMs, end }] of this.#doubts) {
      if (sinceMs + doubtMaxMs > nowMs) break;
      this.#doubts.delete(key);
      end('unknown');
    }
    for (const [key, { untilMs, signal, onAbort }] of this.#held) {
      if (untilMs > nowMs) break;
      signal?.removeEventListener('abort', onAbort);
      this.#held.delete(key);
    }
  }

  #trustIn({ name }: LeaseNode): CircuitBreaker {
    const known = this.#trust.get(name);
    if (known !== undefined) return known;
    const { nowMs, random } = this.#options;
    const trust = new CircuitBreaker({ nowMs, random, probesInARow: 1 });
    this.#trust.set(name, trust);
    return trust;
  }
}
