/**
 * The shared tier, L2: sealed chunks in shards on a fleet of memcached servers.
 *
 * Invariants: no fault of the fleet is a fault of a read; it is a miss, after a bounded wait. What is
 * answered has the chunk's id as its SHA-256, whatever the nodes hold: clients with other lists of
 * nodes, other sizes or other intentions share them. Writes are in the background and bounded, in
 * bytes and in number; what does not fit is declined.
 */

import { setImmediate as nextTurn } from 'node:timers/promises';
import type { ChunkId } from '../../base/digest.ts';
import { Limiter } from '../../base/limiter.ts';
import { cacheWritesPendingMaxBytes } from '../../base/limits.ts';
import type { Log } from '../../base/log.ts';
import type { Shape } from '../../erasure/reed-solomon.ts';
import { Admission } from '../admission.ts';
import type { ChunkSource, GetOptions, SealedHit } from '../chunk-source.ts';
import { isUnwanted, PrefetchShed } from '../prefetch.ts';
import type { FleetServer } from './fleet-config.ts';
import { repairKey, shardKey } from './format.ts';
import { type LeaseStats, Leases, type Look } from './leases.ts';
import { CacheNode, type NodeStats } from './node.ts';
import { Placement } from './placement.ts';
import { type Places, placesOf, standInsMax } from './places.ts';
import { Pulse } from './pulse.ts';
import { type Finding, FleetRead, isShard, type ReadReport } from './read.ts';
import { assignShards, makeShards, type ShardedChunk } from './shard.ts';

export interface FleetSourceOptions {
  /** At least k; names and addresses are distinct. */
  nodes: readonly FleetServer[];
  shape: Shape;
  log: Log;
  /** What a read waits for shards at most, once it has its turn; then it is a miss. */
  waitMaxMs?: number;
  /** What a read that misses waits, on average, for another worker that fetches the chunk. */
  leaseWaitMaxMs?: number;
  /** A monotonic clock. */
  nowMs?: () => number;
  /** 0 to below 1. */
  random?: () => number;
}

export interface FleetStats extends LeaseStats {
  hits: number;
  misses: number;
  /** Misses because too many reads waited already. */
  turnedAway: number;
  /** Prefetches that were neither: too many waited already, or another worker fetches the chunk. */
  shed: number;
  /** Hits for which not every node gave, or at least had, its shard. */
  degraded: number;
  /** Chunks that were offered and sent to their nodes. */
  puts: number;
  putsDeclined: number;
  /** Hits after which shards that were absent or wrong were stored again. */
  repairs: number;
  /** Now: reads that ask nodes, reads that wait for their turn, and prefetches that do. */
  reading: number;
  waiting: number;
  prefetchesWaiting: number;
  /** Now: repairs, and offers that wait to be sent. */
  repairing: number;
  pendingBytes: number;
  nodes: NodeStats[];
}

/** The shard of this index is to be on that node. */
interface ShardNode {
  readonly node: CacheNode;
  readonly index: number;
}

/** Well above what a fleet in the same place takes, below what a store takes. */
const waitDefaultMs = 50;
const writeTimeoutMs = 1000;
/** As long as reads of a store that many workers ask at once may take. */
const leaseWaitDefaultMs = 4000;
/**
 * A chunk of 512 KiB takes a millisecond of this process: with more at once they would wait for it
 * and not for the nodes, which would be blamed.
 */
const readsAtOnceMax = 8;
/** For their turn: some tenths of a second while all is well. More go on to the next tier. */
const readsWaitingMax = 256;
const prefetchesAtOnceMax = 4;
const prefetchesWaitingMax = 64;
/** Each encodes a chunk and fills sockets; reads share both with them. */
const putsAtOnceMax = 4;
/** More are let be: the next read of the chunk tries again. */
const repairsAtOnceMax = 2;
/** Well above what a repair takes. One that failed is tried again after that. */
const repairNoteSeconds = 2;

export class FleetSource implements ChunkSource {
  readonly tier = 'l2';
  readonly shape: Shape;
  readonly #nodes: readonly CacheNode[];
  readonly #placement: Placement<CacheNode>;
  readonly #waitMaxMs: number;
  readonly #readers = new Admission({
    atOnceMax: readsAtOnceMax,
    prefetchAtOnceMax: prefetchesAtOnceMax,
    prefetchWaitingMax: prefetchesWaitingMax,
  });
  readonly #writers = new Limiter(putsAtOnceMax);
  readonly #leases: Leases;
  /** What was taken but not sent yet. */
  readonly #waiting = new Map<ChunkId, Buffer>();
  readonly #background = new Set<Promise<void>>();
  readonly #counts = {
    hits: 0,
    misses: 0,
    turnedAway: 0,
    shed: 0,
    degraded: 0,
    puts: 0,
    putsDeclined: 0,
    repairs: 0,
  };
  #pendingBytes = 0;
  #repairing = 0;
  #closed = false;

  constructor(options: FleetSourceOptions) {
    const { log, nowMs = () => performance.now(), random = Math.random } = options;
    this.shape = options.shape;
    const pulse = new Pulse(nowMs);
    this.#nodes = options.nodes.map(server => new CacheNode(server, { log, nowMs, random, pulse }));
    this.#placement = new Placement(this.#nodes);
    this.#waitMaxMs = options.waitMaxMs ?? waitDefaultMs;
    this.#leases = new Leases({
      nowMs,
      random,
      waitMaxMs: options.leaseWaitMaxMs ?? leaseWaitDefaultMs,
      timeoutMs: this.#waitMaxMs,
      run: work => this.#run(work),
    });
  }

  async get(id: ChunkId, options: GetOptions): Promise<SealedHit | undefined> {
    try {
      const sealed = await this.#find({ id, sizeBytes: options.sizeBytes, ...this.shape }, options);
      if (sealed === undefined) this.#counts.misses++;
      else this.#counts.hits++;
      return sealed && { sealed, tier: this.tier, verified: true };
    } catch (error) {
      if (error instanceof PrefetchShed) this.#counts.shed++;
      throw error;
    }
  }

  async put(id: ChunkId, sealed: Buffer): Promise<void> {
    this.#leases.arrived(this.#chunkOf(id, sealed));
    if (this.#waiting.has(id)) return;
    const isFull = this.#pendingBytes + sealed.length > cacheWritesPendingMaxBytes;
    const taking = this.#placesOf(id).places.filter(node => node.takesWrites).length;
    if (this.#closed || isFull || taking < this.shape.dataShards) {
      this.#counts.putsDeclined++;
      if (!this.#closed) this.#run(this.#leases.settle(this.#chunkOf(id, sealed), false));
      return;
    }
    this.#waiting.set(id, sealed);
    this.#pendingBytes += sealed.length;
    const work = this.#writers
      .run(() => this.#put(id, sealed))
      .finally(() => {
        this.#pendingBytes -= sealed.length;
      });
    this.#run(work);
    await work;
  }

  async drop(id: ChunkId): Promise<void> {
    // Writes under way are ahead of the removals, on the same connections.
    this.#waiting.delete(id);
    if (this.#closed) return;
    const key = shardKey(id, this.shape);
    const { places, replaced } = this.#placesOf(id);
    const nodes = [...places, ...replaced];
    await Promise.all(nodes.map(node => node.remove(key, this.#waitMaxMs)));
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#leases.close();
    while (this.#background.size > 0) await Promise.all(this.#background);
    for (const node of this.#nodes) node.close();
  }

  /** Whether nothing is under way: no request, no write. */
  get isIdle(): boolean {
    return this.#background.size === 0;
  }

  stats(): FleetStats {
    return {
      ...this.#counts,
      ...this.#leases.stats(),
      reading: this.#readers.running,
      waiting: this.#readers.demandWaiting,
      prefetchesWaiting: this.#readers.prefetchesWaiting,
      repairing: this.#repairing,
      pendingBytes: this.#pendingBytes,
      nodes: this.#nodes.map(node => node.stats()),
    };
  }

  #placesOf(id: ChunkId): Places<CacheNode> {
    const shards = this.shape.dataShards + this.shape.parityShards;
    const ranked = this.#placement.place(id, shards + standInsMax);
    return placesOf(ranked, shards, node => node.isOut);
  }

  #chunkOf(id: ChunkId, sealed: Buffer): ShardedChunk {
    return { id, sizeBytes: sealed.length, ...this.shape };
  }

  /** Out of the fleet, perhaps after another worker has put it there. */
  async #find(chunk: ShardedChunk, options: GetOptions): Promise<Buffer | undefined> {
    const { signal, prefetch } = options;
    const found = await this.#look(chunk, options);
    if (Buffer.isBuffer(found)) return found;
    if (found === 'unreadable') return undefined;
    const taken = await this.#leases.take(chunk, this.#placesOf(chunk.id).places, signal, prefetch);
    if (taken === 'won' || taken === 'none') return undefined;
    if (isUnwanted(prefetch)) {
      // It comes into the fleet without this worker, where it is found when somebody reads it.
      this.#leases.pass(taken);
      throw new PrefetchShed('another worker fetches the chunk');
    }
    return this.#leases.wait(taken, () => this.#look(chunk, options), signal);
  }

  /** Takes its turn and asks the nodes. */
  async #look(chunk: ShardedChunk, options: GetOptions): Promise<Look> {
    const { signal, prefetch } = options;
    signal?.throwIfAborted();
    if (!isUnwanted(prefetch) && this.#readers.demandWaiting >= readsWaitingMax) {
      this.#counts.turnedAway++;
      return 'unreadable';
    }
    using _place = await this.#readers.acquire(options);
    const { places, replaced, standIns } = this.#placesOf(chunk.id);
    // Those that are out are probes at most, which nobody waits for.
    const nodes = [...places, ...replaced];
    const passing = nodes.filter(node => node.passes).length;
    if (this.#closed || passing < this.shape.dataShards) return 'unreadable';
    const read = this.#read(chunk, nodes, places, signal);
    const sealed = await read.sealed;
    if (sealed !== undefined) return sealed;
    // Nodes that are back have not got what others took for them meanwhile.
    const held = standIns.length === 0 ? 0 : (await read.report).findings.filter(isHeld).length;
    if (held > 0 && held + standIns.length >= this.shape.dataShards) {
      const wide = await this.#read(chunk, [...nodes, ...standIns], places, signal).sealed;
      if (wide !== undefined) return wide;
    }
    return read.isPromising ? 'absent' : 'unreadable';
  }

  #read(
    chunk: ShardedChunk,
    nodes: readonly CacheNode[],
    places: readonly CacheNode[],
    signal: AbortSignal | undefined,
  ): FleetRead {
    const read = new FleetRead(nodes, chunk, { timeoutMs: this.#waitMaxMs, signal });
    this.#run(read.report.then(report => this.#learn(chunk, places, report)));
    return read;
  }

  async #put(id: ChunkId, sealed: Buffer): Promise<void> {
    await nextTurn();
    const chunk = this.#chunkOf(id, sealed);
    let stored = 0;
    // Else it was dropped meanwhile.
    if (this.#waiting.get(id) === sealed) {
      this.#waiting.delete(id);
      this.#counts.puts++;
      const places = this.#placesOf(id).places.map((node, index) => ({ node, index }));
      stored = await this.#store(chunk, sealed, places, 'store');
    }
    await this.#leases.settle(chunk, stored >= this.shape.dataShards);
  }

  /** How many nodes took their shard. */
  async #store(
    chunk: ShardedChunk,
    sealed: Buffer,
    shardNodes: readonly ShardNode[],
    how: 'store' | 'repair',
  ): Promise<number> {
    const key = shardKey(chunk.id, chunk);
    const shards = makeShards(chunk, sealed);
    const writes = shardNodes
      .filter(({ node }) => node.takesWrites)
      .map(({ node, index }) => {
        const { header, payload } = shards[index]!;
        return node[how](key, [header, payload], writeTimeoutMs);
      });
    const stored = await Promise.all(writes);
    return stored.filter(isStored => isStored).length;
  }

  /** After a read: what is not where it should be is stored again. */
  async #learn(
    chunk: ShardedChunk,
    places: readonly CacheNode[],
    report: ReadReport,
  ): Promise<void> {
    const { sealed } = report;
    if (sealed === undefined) return;
    const findings = report.findings.slice(0, places.length);
    if (findings.every(isHeld)) return;
    this.#counts.degraded++;
    // Which shard such a node has is not known, so neither is which one is missing.
    if (findings.includes('late') || this.#closed) return;
    const held = findings.map(finding => (isShard(finding) ? finding.index : undefined));
    const lacking: ShardNode[] = [];
    for (const [at, index] of assignShards(held, this.shape).entries()) {
      const node = places[at]!;
      const isHere = !isUnknown(findings[at]) && held[at] !== index;
      if (isHere && node.takesRepairs) lacking.push({ node, index });
    }
    if (lacking.length === 0 || this.#repairing === repairsAtOnceMax) return;
    this.#repairing++;
    try {
      await this.#repair(chunk, sealed, lacking);
    } finally {
      this.#repairing--;
    }
  }

  /** Many workers find at once what is lacking, most of all at a new node: one of them stores it. */
  async #repair(chunk: ShardedChunk, sealed: Buffer, lacking: ShardNode[]): Promise<void> {
    const key = repairKey(chunk.id, chunk);
    const note = { lifetimeSeconds: repairNoteSeconds, timeoutMs: this.#waitMaxMs };
    const answers = await Promise.all(lacking.map(({ node }) => node.note(key, note)));
    const own = lacking.filter((_, at) => answers[at] === 'noted');
    if (own.length === 0) return;
    this.#counts.repairs++;
    await this.#store(chunk, sealed, own, 'repair');
  }

  /** Keeps track of work that nobody waits for but close. */
  #run(work: Promise<void>): void {
    const tracked = work.finally(() => this.#background.delete(tracked));
    this.#background.add(tracked);
  }
}

function isHeld(finding: Finding | undefined): boolean {
  return isShard(finding) || finding === 'late';
}

/** Whether the node may well have its shard. */
function isUnknown(finding: Finding | undefined): boolean {
  const unknown: readonly (Finding | undefined)[] = [undefined, 'timed out', 'failed', 'busy'];
  return unknown.includes(finding);
}
