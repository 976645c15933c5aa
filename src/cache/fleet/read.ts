/**
 * One read of a chunk from its nodes: all are asked at once, and the first shards that make the chunk
 * are its answer, so that a slow node is waited for only where others have nothing.
 *
 * Invariants: the answer has the chunk's id as its SHA-256. It comes, or a miss, when the last node
 * has answered or run out of time, and mostly sooner: a miss as soon as too few shards can come. A
 * node that is asked to see whether it is well again is not waited for, but if its shard is there in
 * time it counts. Every node that was asked is judged, once, when all have settled.
 */

import type { Outcome } from './breaker.ts';
import { shardKey } from './format.ts';
import type { Asked, CacheNode, NodeAnswer, WrongKind } from './node.ts';
import { joinShards, readShard, type Shard, type ShardedChunk, valueSizeBytes } from './shard.ts';

/** Without a reason an abort makes an error with a stack. */
const nobodyWaits = 'nobody waits for it';

/** What a node turned out to have. `late`: it has a value, which nobody waited for. */
export type Finding =
  | Shard
  | { wrong: WrongKind }
  | 'absent'
  | 'late'
  | 'timed out'
  | 'failed'
  | 'busy';

export interface ReadReport {
  /** The chunk, if it was found. */
  sealed: Buffer | undefined;
  /** For every node of the placement, in its order; undefined if it was not asked. */
  findings: (Finding | undefined)[];
}

export type ReadableNode = Pick<CacheNode, 'ask' | 'countWrong'>;

export interface FleetReadOptions {
  timeoutMs: number;
  signal: AbortSignal | undefined;
}

export class FleetRead {
  /** Undefined is a miss. Rejects with the signal's reason only. */
  readonly sealed: Promise<Buffer | undefined>;
  /** When every node has settled; never rejects. */
  readonly report: Promise<ReadReport>;
  readonly #chunk: ShardedChunk;
  readonly #nodes: readonly ReadableNode[];
  readonly #asked: (Asked | undefined)[];
  readonly #findings: (Finding | undefined)[];
  readonly #indexes = new Set<number>();
  readonly #unwanted = new AbortController();
  readonly #deliver: (sealed: Buffer | undefined) => void;
  readonly #conclude: (report: ReadReport) => void;
  #found: Buffer | undefined;
  #delivered = false;
  #conflicting = false;
  /** Answers to come, and of these the ones that are waited for. */
  #pending = 0;
  #awaited = 0;

  constructor(nodes: readonly ReadableNode[], chunk: ShardedChunk, options: FleetReadOptions) {
    this.#nodes = nodes;
    this.#chunk = chunk;
    const sealed = Promise.withResolvers<Buffer | undefined>();
    const report = Promise.withResolvers<ReadReport>();
    this.sealed = sealed.promise;
    this.report = report.promise;
    this.#conclude = report.resolve;
    const { timeoutMs, signal } = options;
    const giveUp = () => {
      this.#delivered = true;
      this.#unwanted.abort(nobodyWaits);
      sealed.reject(signal!.reason);
    };
    this.#deliver = found => {
      this.#delivered = true;
      signal?.removeEventListener('abort', giveUp);
      sealed.resolve(found);
    };
    signal?.addEventListener('abort', giveUp, { once: true });
    const key = shardKey(chunk.id, chunk);
    const sizeMaxBytes = valueSizeBytes(chunk);
    const read = { sizeMaxBytes, timeoutMs, signal: this.#unwanted.signal };
    this.#asked = nodes.map(node => node.ask(key, read));
    this.#findings = nodes.map(() => undefined);
    for (const [at, asked] of this.#asked.entries()) {
      if (asked === undefined) continue;
      this.#pending++;
      if (!asked.isProbe) this.#awaited++;
      asked.answer.then(answer => this.#arrive(at, answer));
    }
    if (this.#awaited < chunk.dataShards) this.#give(undefined);
    if (this.#pending === 0) this.#finish();
  }

  /**
   * Whether what is stored now could be read: enough nodes were asked, and have not failed. Those that
   * were slow are soon given up if they stay so; all may be for a moment, while many workers start.
   */
  get isPromising(): boolean {
    const failed = this.#findings.filter(finding => finding === 'failed').length;
    const asked = this.#asked.filter(asked => asked?.isProbe === false).length;
    return asked - failed >= this.#chunk.dataShards;
  }

  #arrive(at: number, answer: NodeAnswer): void {
    const finding = this.#find(answer);
    this.#findings[at] = finding;
    if (isShard(finding)) this.#indexes.add(finding.index);
    this.#pending--;
    if (this.#asked[at]?.isProbe === false) this.#awaited--;
    if (!this.#delivered) this.#decide();
    if (this.#pending === 0) this.#finish();
  }

  #decide(): void {
    const { dataShards } = this.#chunk;
    const isLast = this.#awaited === 0;
    if (this.#indexes.size >= dataShards && (isLast || !this.#conflicting)) this.#join();
    if (this.#delivered) return;
    if (isLast || this.#indexes.size + this.#awaited < dataShards) this.#give(undefined);
  }

  #find(answer: NodeAnswer): Finding {
    if (answer === 'unwanted') return 'late';
    if (answer === 'too large') return { wrong: 'foreign' };
    if (typeof answer === 'string') return answer;
    if (this.#delivered && this.#found === undefined) return 'late';
    const shard = readShard(answer, this.#chunk);
    return typeof shard === 'string' ? { wrong: shard } : shard;
  }

  #join(): void {
    const joined = joinShards(this.#findings.filter(isShard), this.#chunk);
    if (joined === undefined) {
      // A node lies. With the shards that are still to come there may be a way around it.
      this.#conflicting = true;
      return;
    }
    for (const lie of joined.lies) {
      this.#findings[this.#findings.indexOf(lie)] = { wrong: 'lie' };
    }
    this.#give(joined.sealed);
  }

  #give(sealed: Buffer | undefined): void {
    this.#found = sealed;
    this.#deliver(sealed);
    // If some shard has to be stored again, it matters which ones the other nodes have.
    const isDamaged = this.#findings.some(finding => finding === 'absent' || isWrong(finding));
    if (sealed === undefined || !isDamaged) this.#unwanted.abort(nobodyWaits);
  }

  #finish(): void {
    for (const [at, asked] of this.#asked.entries()) {
      const finding = this.#findings[at];
      if (finding === undefined) continue;
      if (isWrong(finding)) {
        this.#nodes[at]!.countWrong(finding.wrong, this.#chunk.id);
      }
      asked?.judge(this.#outcomeOf(finding));
    }
    this.#conclude({ sealed: this.#found, findings: this.#findings });
  }

  #outcomeOf(finding: Finding): Outcome {
    if (finding === 'failed' || finding === 'timed out') return 'bad';
    if (finding === 'busy') return 'unknown';
    const isUnresolved = this.#found === undefined;
    // One of those lied.
    if (isShard(finding)) return isUnresolved && this.#conflicting ? 'unknown' : 'good';
    if (!isWrong(finding)) return 'good';
    // Perhaps it is the asker who is wrong about the chunk's size.
    return isUnresolved && finding.wrong === 'foreign' ? 'unknown' : 'bad';
  }
}

function isWrong(finding: Finding | undefined): finding is { wrong: WrongKind } {
  return typeof finding === 'object' && 'wrong' in finding;
}

export function isShard(finding: Finding | undefined): finding is Shard {
  return typeof finding === 'object' && 'index' in finding;
}
