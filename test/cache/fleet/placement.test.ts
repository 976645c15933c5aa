import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ChunkId, sha256Hex } from '../../../src/base/digest.ts';
import { type FleetNode, Placement } from '../../../src/cache/fleet/placement.ts';
import { seeded } from '../../support/random.ts';

const chunks = Array.from(
  { length: 20_000 },
  (_, at) => sha256Hex(Buffer.from(`chunk ${at}`)) as ChunkId,
);

/** `node-1` to `node-…`, each in a domain of its own. */
function fleet(count: number): FleetNode[] {
  return Array.from({ length: count }, (_, at) => {
    const name = `node-${at + 1}`;
    return { name, weight: 1, domain: name };
  });
}

function names(placement: Placement<FleetNode>, id: ChunkId, count: number): string[] {
  return placement.place(id, count).map(({ name }) => name);
}

function withRandomNodes(check: (nodes: FleetNode[], count: number, what: string) => void): void {
  for (const random of seeded(40)) {
    const domains = random.between(1, 8);
    const nodes = fleet(random.between(2, 20)).map(({ name }) => ({
      name,
      weight: random.between(1, 4),
      domain: `rack-${random.below(domains)}`,
    }));
    check(nodes, random.between(1, 6), `seed ${random.seed}`);
  }
}

/** docs/format/shard.md by itself: with BigInt, and the logarithm that the platform has. */
function documentedCost(id: ChunkId, { name, weight }: FleetNode): number {
  const mix = (value: bigint): bigint => {
    let z = value;
    z = ((z ^ (z >> 16n)) * 0x85ebca6bn) & 0xffffffffn;
    z = ((z ^ (z >> 13n)) * 0xc2b2ae35n) & 0xffffffffn;
    return z ^ (z >> 16n);
  };
  const seed = Buffer.from(sha256Hex(Buffer.from(name)), 'hex');
  const first = mix(BigInt(`0x${id.slice(0, 8)}`) ^ BigInt(seed.readUInt32LE(0)));
  const draw = mix(first ^ BigInt(`0x${id.slice(8, 16)}`) ^ BigInt(seed.readUInt32LE(4)));
  return -Math.log((Number(draw) + 0.5) / 2 ** 32) / weight;
}

test('golden placements, computed by another program', () => {
  // Name's last character, weight, domain.
  const nodes = ['1 1 a', '2 1 a', '3 2 b', '4 1 b', '5 3 c', '6 1 d'].map(line => {
    const [name, weight, domain] = line.split(' ') as [string, string, string];
    return { name: `cache-${name}`, weight: Number(weight), domain };
  });
  const placement = new Placement(nodes);
  const placed = chunks.slice(0, 6).map(id =>
    names(placement, id, 5)
      .map(name => name.slice(-1))
      .join(''),
  );
  assert.deepEqual(placed, ['65134', '63524', '54163', '56421', '51362', '23654']);
});

test('placement is what the document says', () => {
  const nodes = fleet(30).map((node, at) => ({ ...node, weight: 1 + (at % 5) / 2 }));
  const placement = new Placement(nodes);
  for (const id of chunks.slice(0, 2000)) {
    const costs = new Map(nodes.map(node => [node.name, documentedCost(id, node)]));
    const byCost = [...costs.keys()].sort((a, b) => costs.get(a)! - costs.get(b)!);
    assert.deepEqual(names(placement, id, nodes.length), byCost);
  }
});

test('the order of the list and all else about a node do not matter', () => {
  withRandomNodes((nodes, count, what) => {
    const one = new Placement(nodes);
    const moved = nodes.toReversed().map(node => ({ ...node, address: `there:${node.name}` }));
    const other = new Placement(moved);
    for (const id of chunks.slice(0, 100)) {
      assert.deepEqual(names(one, id, count), names(other, id, count), what);
      assert.ok(moved.includes(other.place(id, 1)[0]!), 'the very nodes that were given');
    }
  });
});

test('nodes are distinct, and as many as asked for or as there are', () => {
  withRandomNodes((nodes, count, what) => {
    const placement = new Placement(nodes);
    for (const id of chunks.slice(0, 100)) {
      const placed = names(placement, id, count);
      assert.equal(placed.length, Math.min(count, nodes.length), what);
      assert.equal(new Set(placed).size, placed.length, what);
      assert.deepEqual(names(placement, id, 1), placed.slice(0, 1), 'fewer are the first of more');
    }
  });
  assert.deepEqual(new Placement([]).place(chunks[0]!, 5), []);
});

test('a node has its share of the chunks: weights 1 to 4 of 10', () => {
  const nodes = fleet(4).map((node, at) => ({ ...node, weight: at + 1 }));
  const placement = new Placement(nodes);
  const firsts = new Map<string, number>();
  for (const id of chunks) {
    const [first] = names(placement, id, 1);
    firsts.set(first!, (firsts.get(first!) ?? 0) + 1);
  }
  for (const { name, weight } of nodes) {
    const share = firsts.get(name)! / chunks.length;
    // Five standard deviations.
    const expected = weight / 10;
    const tolerance = 5 * Math.sqrt((expected * (1 - expected)) / chunks.length);
    assert.ok(Math.abs(share - expected) < tolerance, `${name}: ${share} of ${expected}`);
  }
});

test('which node comes second does not depend on which comes first', () => {
  const placement = new Placement(fleet(6));
  const pairs = new Map<string, number>();
  for (const id of chunks) {
    const pair = names(placement, id, 2).join();
    pairs.set(pair, (pairs.get(pair) ?? 0) + 1);
  }
  assert.equal(pairs.size, 30);
  const expected = chunks.length / 30;
  let chiSquared = 0;
  for (const count of pairs.values()) chiSquared += (count - expected) ** 2 / expected;
  assert.ok(chiSquared < 58.3, `${chiSquared} is below the 0.999 quantile of 29 degrees`);
});

test('a node that leaves is replaced where it was; the others keep what they have', () => {
  withRandomNodes((nodes, count, what) => {
    const before = new Placement(nodes);
    const [gone, ...rest] = nodes as [FleetNode, ...FleetNode[]];
    const after = new Placement(rest);
    for (const id of chunks.slice(0, 300)) {
      const had = names(before, id, count);
      const has = new Set(names(after, id, count));
      const stayed = had.filter(name => name !== gone.name);
      assert.ok(
        stayed.every(name => has.has(name)),
        what,
      );
      if (stayed.length === had.length) assert.deepEqual([...has], had, what);
    }
  });
});

test('more weight draws chunks to its node and moves nothing else', () => {
  withRandomNodes((nodes, count, what) => {
    const before = new Placement(nodes);
    const [light, ...rest] = nodes as [FleetNode, ...FleetNode[]];
    const after = new Placement([{ ...light, weight: light.weight * 2 }, ...rest]);
    for (const id of chunks.slice(0, 100)) {
      const had = new Set(names(before, id, count));
      const come = names(after, id, count).filter(name => !had.has(name));
      assert.ok(come.length === 0 || (come.length === 1 && come[0] === light.name), what);
    }
  });
});

test('the eleventh node of eleven takes an eleventh of all shards', () => {
  const count = 5;
  const before = new Placement(fleet(10));
  const after = new Placement(fleet(11));
  let moved = 0;
  for (const id of chunks) {
    const had = new Set(names(before, id, count));
    moved += names(after, id, count).filter(name => !had.has(name)).length;
  }
  const share = moved / (count * chunks.length);
  assert.ok(Math.abs(share - 1 / 11) < 0.003, `${share}`);
});

test('shards are spread over as many domains as there are, evenly', () => {
  const racks = (sizes: number[]) =>
    sizes.flatMap((size, rack) =>
      Array.from({ length: size }, (_, at) => ({
        name: `${rack}-${at}`,
        weight: 1 + at,
        domain: `rack-${rack}`,
      })),
    );
  const usesOf = (sizes: number[], id: ChunkId) => {
    const uses = new Map<string, number>();
    for (const { domain } of new Placement(racks(sizes)).place(id, 5)) {
      uses.set(domain, (uses.get(domain) ?? 0) + 1);
    }
    return [...uses.values()].sort().join();
  };
  for (const id of chunks.slice(0, 200)) {
    assert.equal(usesOf([1, 1, 20, 1, 1], id), '1,1,1,1,1');
    assert.equal(usesOf([3, 9, 9, 1, 2, 7, 7], id), '1,1,1,1,1');
    assert.equal(usesOf([10, 10, 10], id), '1,2,2');
    assert.equal(usesOf([3, 3], id), '2,3');
    assert.equal(usesOf([1, 8], id), '1,4');
    assert.equal(usesOf([8], id), '5');
  }
});

test('the smallest draw has the highest cost', () => {
  // Of fmix32, 0 is the image of 0 alone: a node whose seed and chunk cancel out draws 0.
  const [node] = fleet(1) as [FleetNode];
  const seed = Buffer.from(sha256Hex(Buffer.from(node.name)), 'hex');
  const words = [seed.readUInt32LE(0), seed.readUInt32LE(4)];
  const digits = words.map(word => word.toString(16).padStart(8, '0'));
  const id = digits.join('').padEnd(64, '0');
  assert.ok(Math.abs(documentedCost(id as ChunkId, node) - 33 * Math.LN2) < 1e-9);
  const others = [node, ...fleet(9).slice(1)];
  assert.equal(names(new Placement(others), id as ChunkId, 9).at(-1), node.name);
});

test('two nodes of one name, or a weight that is none, are bugs of the caller', () => {
  const [node] = fleet(1) as [FleetNode];
  assert.throws(() => new Placement([node, node]), /names are distinct/);
  for (const weight of [0, -1, Number.NaN, Infinity]) {
    assert.throws(() => new Placement([{ ...node, weight }]), /weight is above 0/);
  }
});
