/**
 * Which nodes of a fleet hold the shards of a chunk: weighted rendezvous hashing. For every chunk
 * each node draws a cost, exponentially distributed at the rate of its weight, and the cheapest nodes
 * are taken: a node comes first for a share of the chunks that is its share of the weights.
 *
 * Invariants: the answer follows from the chunk's id and the nodes' names, weights and domains alone,
 * in whatever order they are listed, on every machine. When a node comes or goes, each chunk changes
 * at most one of its nodes: the others stay, though their order may shift by one place.
 * docs/format/shard.md has the arithmetic, so that other clients can place alike.
 */

import { assert } from '../../base/assert.ts';
import { type ChunkId, sha256 } from '../../base/digest.ts';

export interface FleetNode {
  /** Identity: a node may move to another address, but under another name it is another node. */
  readonly name: string;
  /** Above 0; a node of weight 2 gets twice as many shards as one of 1. */
  readonly weight: number;
  /** What fails together: a rack, a zone. Nodes that share nothing have domains of their own. */
  readonly domain: string;
}

interface Candidate<Node> {
  readonly node: Node;
  /** Of the name: 64 bits that are as good as random. */
  readonly seed: readonly [number, number];
  readonly domain: number;
}

export class Placement<Node extends FleetNode> {
  readonly #candidates: readonly Candidate<Node>[];
  readonly #domains: number;

  constructor(nodes: readonly Node[]) {
    assert(new Set(nodes.map(({ name }) => name)).size === nodes.length, 'names are distinct');
    const domains = [...new Set(nodes.map(({ domain }) => domain))];
    // By name, so that the first of two equal costs is the same whatever the order of the list.
    const sorted = [...nodes].sort((a, b) => (a.name < b.name ? -1 : 1));
    this.#candidates = sorted.map(node => {
      assert(Number.isFinite(node.weight) && node.weight > 0, 'a weight is above 0');
      const digest = sha256(Buffer.from(node.name, 'utf8'));
      const seed = [digest.readUInt32LE(0), digest.readUInt32LE(4)] as const;
      return { node, seed, domain: domains.indexOf(node.domain) };
    });
    this.#domains = domains.length;
  }

  /**
   * Up to `count` distinct nodes, fewer only if there are not as many, the best first. No domain has
   * two more of them than another that has nodes left.
   */
  place(id: ChunkId, count: number): Node[] {
    const costs = this.#costs(id);
    const uses = new Uint32Array(this.#domains);
    const placed: Node[] = [];
    while (placed.length < Math.min(count, this.#candidates.length)) {
      let best = -1;
      let bestUses = Infinity;
      let bestCost = Infinity;
      for (const [at, { domain }] of this.#candidates.entries()) {
        const cost = costs[at]!;
        const used = uses[domain]!;
        const taken = cost === Infinity;
        if (taken || used > bestUses || (used === bestUses && cost >= bestCost)) continue;
        best = at;
        bestUses = used;
        bestCost = cost;
      }
      const { node, domain } = this.#candidates[best]!;
      placed.push(node);
      uses[domain]!++;
      costs[best] = Infinity;
    }
    return placed;
  }

  #costs(id: ChunkId): Float64Array {
    const low = Number.parseInt(id.slice(0, 8), 16);
    const high = Number.parseInt(id.slice(8, 16), 16);
    const costs = new Float64Array(this.#candidates.length);
    for (const [at, { node, seed }] of this.#candidates.entries()) {
      const draw = mix(mix(low ^ seed[0]) ^ high ^ seed[1]);
      costs[at] = minusLogarithm((draw + 0.5) / 2 ** 32) / node.weight;
    }
    return costs;
  }
}

/** The finaliser of MurmurHash3: 32 bits to 32, one to one. */
function mix(value: number): number {
  let z = value;
  z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
  z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
  return (z ^ (z >>> 16)) >>> 0;
}

const seriesTerms = 16;

/**
 * -ln of a number above 0 and below 1. Math.log may differ in its last bits from one engine and
 * machine to another; sums, products and quotients may not (ECMA-262 asks for IEEE 754 to the bit).
 * So: halvings, which are exact, then ln m = 2 (t + t³/3 + t⁵/5 + …) with t = (m - 1) / (m + 1).
 */
function minusLogarithm(value: number): number {
  let halvings = 0;
  let m = value;
  for (; m < 0.5; m *= 2) halvings++;
  const t = (1 - m) / (1 + m);
  let sum = 0;
  for (let term = seriesTerms - 1; term >= 0; term--) sum = sum * t * t + 1 / (2 * term + 1);
  return halvings * Math.LN2 + 2 * t * sum;
}
