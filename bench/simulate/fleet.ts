/**
 * The shared cache: shards of chunks on nodes, where Placement puts them. A node is a model of
 * memcached: it forgets what was not used for longest when its bytes are used up. (memcached has
 * three such lists a size class, moves a value at most once a minute, and may keep it on flash.) What
 * FleetSource does is here as far as it decides what is where: a read takes any k shards, and
 * what was not there is stored again after it; for a node that is down the next one stands in, and
 * is asked too where its place has nothing.
 */

import type { FleetNode } from '../../src/cache/fleet/placement.ts';
import { Placement } from '../../src/cache/fleet/placement.ts';
import { placesOf, standInsMax } from '../../src/cache/fleet/places.ts';
import { valueSizeBytes } from '../../src/cache/fleet/shard.ts';
import type { Shape } from '../../src/erasure/reed-solomon.ts';
import { RecencyLists } from './recency.ts';
import type { ChunkNumber, World } from './world.ts';

export interface FleetOptions {
  nodes: number;
  nodeBytes: number;
  shape: Shape;
}

/** A value's key, header and place in a hash table, and what its size class is too large by. */
const itemOverheadBytes = 100;
const noNode = 255;

export class Fleet {
  readonly #world: World;
  readonly #shape: Shape;
  /** Of a chunk: one for each shard, and for each node that may stand in. */
  readonly #slots: number;
  readonly #allSlots: readonly number[];
  readonly #nodeBytes: number;
  readonly #placement: Placement<FleetNode & { at: number }>;
  readonly #shards: RecencyLists;
  readonly #up: boolean[];
  readonly #leases: Map<ChunkNumber, number>[];
  /** All chunks that were ever here. */
  readonly #known = new Set<ChunkNumber>();
  /** The nodes of each chunk, as placed once. */
  #placed: Uint8Array;

  constructor(world: World, { nodes, nodeBytes, shape }: FleetOptions) {
    this.#world = world;
    this.#shape = shape;
    this.#slots = shape.dataShards + shape.parityShards + standInsMax;
    this.#allSlots = Array.from({ length: this.#slots }, (_, slot) => slot);
    this.#nodeBytes = nodeBytes;
    this.#shards = new RecencyLists(nodes);
    const all = Array.from({ length: nodes }, (_, at) => {
      return { at, name: `node-${at}`, weight: 1, domain: `node-${at}` };
    });
    this.#placement = new Placement(all);
    this.#up = all.map(() => true);
    this.#leases = all.map(() => new Map());
    this.#placed = new Uint8Array(world.chunks * this.#slots).fill(noNode);
  }

  get nodes(): number {
    return this.#up.length;
  }

  /** Of all nodes. */
  get bytes(): number {
    return this.#shards.bytes.reduce((sum, bytes) => sum + bytes, 0);
  }

  /** Whether the chunk was there. */
  read(chunk: ChunkNumber): boolean {
    const placed = this.#nodesOf(chunk);
    const slots = this.#slotsInUse(placed);
    const held = this.#touch(chunk, slots);
    if (held === 0) return false;
    if (held < this.#shape.dataShards) {
      const others = this.#allSlots.filter(
        slot => this.#up[placed[slot]!] && !slots.includes(slot),
      );
      if (held + this.#touch(chunk, others) < this.#shape.dataShards) return false;
    }
    if (held < slots.length) this.put(chunk);
    return true;
  }

  /** How many shards are in these. */
  #touch(chunk: ChunkNumber, slots: readonly number[]): number {
    const placed = this.#nodesOf(chunk);
    let held = 0;
    for (const slot of slots) {
      const entry = chunk * this.#slots + slot;
      if (!this.#shards.has(entry)) continue;
      this.#shards.touch(placed[slot]!, entry);
      held++;
    }
    return held;
  }

  /** As FleetSource: not if too few of its nodes are up to give it back. */
  put(chunk: ChunkNumber): void {
    const placed = this.#nodesOf(chunk);
    const slots = this.#slotsInUse(placed);
    if (slots.length < this.#shape.dataShards) return;
    this.#known.add(chunk);
    const sizeBytes = this.#shardBytes(chunk);
    for (const slot of slots) {
      const node = placed[slot]!;
      const entry = chunk * this.#slots + slot;
      if (this.#shards.has(entry)) continue;
      this.#shards.add(node, entry, sizeBytes);
      while (this.#shards.bytes[node]! > this.#nodeBytes) this.#forgetLast(node);
    }
  }

  /** Fills up what is free with these, as if they had been read before all that is held. */
  fill(latestFirst: Iterable<ChunkNumber>): void {
    for (const chunk of latestFirst) {
      this.#known.add(chunk);
      const placed = this.#nodesOf(chunk);
      const sizeBytes = this.#shardBytes(chunk);
      for (const slot of this.#slotsInUse(placed)) {
        const node = placed[slot]!;
        const entry = chunk * this.#slots + slot;
        const isFull = this.#shards.bytes[node]! + sizeBytes > this.#nodeBytes;
        if (!isFull && !this.#shards.has(entry)) {
          this.#shards.add(node, entry, sizeBytes, 'back');
        }
      }
    }
  }

  /** As after days: all that was ever here is again, as far as there is room. */
  refill(): void {
    this.fill([...this.#known]);
  }

  /** Whether the lease was free, and is the caller's now. */
  lease(chunk: ChunkNumber, nowMs: number, leaseMs: number): boolean {
    const node = this.#nodesOf(chunk).find(at => this.#up[at] === true);
    if (node === undefined) return true;
    const leases = this.#leases[node]!;
    if ((leases.get(chunk) ?? 0) > nowMs) return false;
    leases.set(chunk, nowMs + leaseMs);
    return true;
  }

  /** The node is gone, and all that it had. */
  lose(node: number): void {
    this.#up[node] = false;
    for (let entry = this.#shards.last(node); entry !== undefined; ) {
      this.#shards.remove(node, entry, this.#shardBytes(Math.floor(entry / this.#slots)));
      entry = this.#shards.last(node);
    }
    this.#leases[node]!.clear();
  }

  /** It is there again, empty. */
  return(node: number): void {
    this.#up[node] = true;
  }

  #nodesOf(chunk: ChunkNumber): Uint8Array {
    const begin = chunk * this.#slots;
    const end = begin + this.#slots;
    if (end > this.#placed.length) {
      const grown = new Uint8Array(Math.ceil(end * 1.5)).fill(noNode);
      grown.set(this.#placed);
      this.#placed = grown;
    }
    if (this.#placed[begin] === noNode) {
      const nodes = this.#placement.place(this.#world.ids[chunk]!, this.#slots);
      this.#placed.set(
        nodes.map(({ at }) => at),
        begin,
      );
    }
    return this.#placed.subarray(begin, end);
  }

  /** Those of the nodes that have its shards now, and are up. */
  #slotsInUse(placed: Uint8Array): readonly number[] {
    const shards = this.#slots - standInsMax;
    const isOut = (slot: number) => this.#up[placed[slot]!] === false;
    const slots = this.#allSlots.filter(slot => placed[slot] !== noNode);
    return placesOf(slots, shards, isOut).places.filter(slot => !isOut(slot));
  }

  #forgetLast(node: number): void {
    const entry = this.#shards.last(node)!;
    this.#shards.remove(node, entry, this.#shardBytes(Math.floor(entry / this.#slots)));
  }

  #shardBytes(chunk: ChunkNumber): number {
    const sizeBytes = this.#world.sizesBytes[chunk]!;
    return (
      valueSizeBytes({ id: this.#world.ids[chunk]!, sizeBytes, ...this.#shape }) + itemOverheadBytes
    );
  }
}
