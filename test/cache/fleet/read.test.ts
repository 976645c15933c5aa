import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Outcome } from '../../../src/cache/fleet/breaker.ts';
import type { ReadOptions } from '../../../src/cache/fleet/client.ts';
import type { Asked, NodeAnswer, WrongKind } from '../../../src/cache/fleet/node.ts';
import { FleetRead, type ReadableNode } from '../../../src/cache/fleet/read.ts';
import { makeShards, type ShardedChunk } from '../../../src/cache/fleet/shard.ts';
import type { Shape } from '../../../src/erasure/reed-solomon.ts';
import { Random, seeded } from '../../support/random.ts';
import { assertSameBytes } from '../../support/same-bytes.ts';
import { type SealedChunk, sealedChunk } from '../../support/sealed-chunks.ts';

/** A node that answers when it is told to. */
class ScriptedNode implements ReadableNode {
  readonly judged: Outcome[] = [];
  readonly wrong: WrongKind[] = [];
  isProbe = false;
  readonly #answer = Promise.withResolvers<NodeAnswer>();
  #options: ReadOptions | undefined;

  ask(_key: string, options: ReadOptions): Asked {
    this.#options = options;
    const judge = (outcome: Outcome) => void this.judged.push(outcome);
    return { answer: this.#answer.promise, isProbe: this.isProbe, judge };
  }

  countWrong(kind: WrongKind): void {
    this.wrong.push(kind);
  }

  get isWanted(): boolean {
    return this.#options?.signal?.aborted === false;
  }

  /** As the client: a value that nobody wants any more is not delivered. */
  async answer(answer: NodeAnswer): Promise<void> {
    this.#answer.resolve(Buffer.isBuffer(answer) && !this.isWanted ? 'unwanted' : answer);
    await nextTurn();
  }
}

class ProbedNode extends ScriptedNode {
  override isProbe = true;
}

class DeafNode extends ScriptedNode implements ReadableNode {
  override ask(): never {
    return undefined as never;
  }
}

interface Scene {
  chunk: SealedChunk;
  nodes: ScriptedNode[];
  read: FleetRead;
  values: Buffer[];
  /** 'pending' until it is delivered. */
  delivered: () => Buffer | undefined | 'pending';
}

interface SceneOptions {
  /** So many nodes are not asked, and the next ones are asked as probes. */
  deaf?: number;
  probed?: number;
  signal?: AbortSignal;
}

function scene(shape: Shape, { deaf = 0, probed = 0, signal }: SceneOptions = {}): Scene {
  const chunk = sealedChunk(new Random(1).bytes(3001));
  const sharded: ShardedChunk = { id: chunk.id, sizeBytes: 3001, ...shape };
  const count = shape.dataShards + shape.parityShards;
  const nodes = Array.from({ length: count }, (_, at) => {
    if (at < deaf) return new DeafNode();
    return at < deaf + probed ? new ProbedNode() : new ScriptedNode();
  });
  const read = new FleetRead(nodes, sharded, { timeoutMs: 50, signal });
  let delivered: Buffer | undefined | 'pending' = 'pending';
  read.sealed.then(
    sealed => {
      delivered = sealed;
    },
    () => {},
  );
  return { chunk, nodes, read, values: valuesOf(chunk, shape), delivered: () => delivered };
}

function valuesOf({ id, sealed }: SealedChunk, shape: Shape): Buffer[] {
  return makeShards({ id, ...shape }, sealed).map(({ header, payload }) =>
    Buffer.concat([header, payload]),
  );
}

/** The values of another chunk under this one's id. */
function liesOf(chunk: SealedChunk, shape: Shape, random: Random): Buffer[] {
  return valuesOf({ id: chunk.id, sealed: random.bytes(chunk.sealed.length) }, shape);
}

const fourOne: Shape = { dataShards: 4, parityShards: 1 };
const fourTwo: Shape = { dataShards: 4, parityShards: 2 };

test('the first four are enough; the fifth is not wanted, and judged when it comes', async () => {
  const { chunk, nodes, read, values, delivered } = scene(fourOne);
  for (const at of [4, 1, 3]) await nodes[at]!.answer(values[at]!);
  assert.equal(delivered(), 'pending');
  await nodes[0]!.answer(values[0]!);
  assertSameBytes(delivered() as Buffer, chunk.sealed);
  assert.ok(!nodes[2]!.isWanted);
  assert.deepEqual(nodes[0]!.judged, []);
  await nodes[2]!.answer(values[2]!);
  const { findings } = await read.report;
  assert.equal(findings[2], 'late');
  for (const node of nodes) assert.deepEqual(node.judged, ['good']);
});

test('a miss as soon as too few can come', async () => {
  const { nodes, delivered, read } = scene(fourOne);
  await nodes[0]!.answer('absent');
  assert.equal(delivered(), 'pending');
  await nodes[1]!.answer('failed');
  assert.equal(delivered(), undefined);
  for (const node of nodes.slice(2)) await node.answer('busy');
  assert.equal((await read.report).sealed, undefined);
  const judged = nodes.map(node => node.judged[0]);
  assert.deepEqual(judged, ['good', 'bad', 'unknown', 'unknown', 'unknown']);
});

test('a lie among the first four is waited out and named', async () => {
  const { chunk, nodes, read, values, delivered } = scene(fourOne);
  const lies = liesOf(chunk, fourOne, new Random(2));
  await nodes[3]!.answer(lies[3]!);
  for (const at of [0, 1, 2]) await nodes[at]!.answer(values[at]!);
  assert.equal(delivered(), 'pending');
  await nodes[4]!.answer(values[4]!);
  assertSameBytes(delivered() as Buffer, chunk.sealed);
  await read.report;
  assert.deepEqual(
    nodes.map(({ judged, wrong }) => [...judged, ...wrong]),
    [['good'], ['good'], ['good'], ['bad', 'lie'], ['good']],
  );
});

test('a lie that cannot be told from the truth is a miss that blames nobody', async () => {
  const { chunk, nodes, read, values, delivered } = scene(fourOne);
  const lies = liesOf(chunk, fourOne, new Random(3));
  await nodes[0]!.answer('absent');
  await nodes[1]!.answer(lies[1]!);
  for (const at of [2, 3, 4]) await nodes[at]!.answer(values[at]!);
  assert.equal(delivered(), undefined);
  await read.report;
  const judged = nodes.map(node => node.judged[0]);
  assert.deepEqual(judged, ['good', 'unknown', 'unknown', 'unknown', 'unknown']);
});

test('nodes with the same shard count once', async () => {
  const { chunk, nodes, values, delivered } = scene(fourTwo);
  for (const at of [0, 1, 2]) await nodes[at]!.answer(values[0]!);
  await nodes[3]!.answer(values[3]!);
  await nodes[4]!.answer(values[4]!);
  assert.equal(delivered(), 'pending');
  await nodes[5]!.answer(values[4]!);
  assert.equal(delivered(), undefined);
  const again = scene(fourOne);
  for (const [at, index] of [0, 0, 1, 2, 4].entries()) {
    await again.nodes[at]!.answer(again.values[index]!);
  }
  assertSameBytes(again.delivered() as Buffer, chunk.sealed);
});

test('when a shard is missing, the others are listened to, so that it is known which', async () => {
  const { nodes, values, read } = scene(fourTwo);
  await nodes[0]!.answer('absent');
  for (const at of [1, 2, 3, 4]) await nodes[at]!.answer(values[at]!);
  assert.ok(nodes[5]!.isWanted);
  await nodes[5]!.answer(values[5]!);
  const { findings } = await read.report;
  assert.deepEqual(
    findings.map(finding => typeof finding === 'object' && 'index' in finding && finding.index),
    [false, 1, 2, 3, 4, 5],
  );
});

test('nobody to ask is a miss at once', async () => {
  const { read } = scene(fourOne, { deaf: 5 });
  assert.equal(await read.sealed, undefined);
  assert.deepEqual((await read.report).findings, Array(5).fill(undefined));
});

test('a probe is not waited for, but counts if it comes in time', async () => {
  const slow = scene(fourOne, { probed: 1 });
  await slow.nodes[1]!.answer('absent');
  assert.equal(slow.delivered(), undefined);
  for (const at of [2, 3, 4]) await slow.nodes[at]!.answer(slow.values[at]!);
  assert.deepEqual(slow.nodes[0]!.judged, []);
  await slow.nodes[0]!.answer('failed');
  await slow.read.report;
  assert.deepEqual(slow.nodes[0]!.judged, ['bad']);
  const well = scene(fourOne, { probed: 1 });
  await well.nodes[0]!.answer(well.values[0]!);
  await well.nodes[1]!.answer('absent');
  for (const at of [2, 3, 4]) await well.nodes[at]!.answer(well.values[at]!);
  assertSameBytes(well.delivered() as Buffer, well.chunk.sealed);
  const alone = scene(fourOne, { probed: 2 });
  await nextTurn();
  assert.equal(alone.delivered(), undefined);
  for (const at of [0, 1, 2, 3, 4]) await alone.nodes[at]!.answer(alone.values[at]!);
  await alone.read.report;
  for (const node of alone.nodes) assert.deepEqual(node.judged, ['good']);
});

test('it is promising to store a chunk while enough nodes that are well do not fail', async () => {
  for (const [answers, probed, expected] of [
    [['absent', 'absent', 'absent', 'absent', 'absent'], 0, true],
    [['failed', 'absent', 'absent', 'absent', 'absent'], 0, true],
    [['absent', 'failed', 'absent', 'absent', 'absent'], 1, false],
    [['failed', 'failed', 'absent', 'absent', 'absent'], 0, false],
    [['failed', 'timed out', 'timed out', 'absent', 'busy'], 0, true],
  ] as const) {
    const { nodes, read } = scene(fourOne, { probed });
    for (const [at, answer] of answers.entries()) await nodes[at]!.answer(answer);
    await read.report;
    assert.equal(read.isPromising, expected);
  }
});

test('an abort rejects with its reason, and nodes are judged by what they answer', async () => {
  const abort = new AbortController();
  const { nodes, read, values } = scene(fourOne, { signal: abort.signal });
  const reason = new Error('given up');
  await nodes[0]!.answer(values[0]!);
  abort.abort(reason);
  await assert.rejects(read.sealed, error => error === reason);
  assert.ok(!nodes[1]!.isWanted);
  await nodes[1]!.answer('failed');
  for (const at of [2, 3, 4]) await nodes[at]!.answer(values[at]!);
  const { sealed } = await read.report;
  assert.equal(sealed, undefined);
  const judged = nodes.map(node => node.judged[0]);
  assert.deepEqual(judged, ['good', 'bad', 'good', 'good', 'good']);
});

test('whatever nodes answer: the right chunk or a miss; with enough truth, no miss', async () => {
  for (const random of seeded(150)) {
    const shape = { dataShards: random.between(1, 5), parityShards: random.below(4) };
    const few = { deaf: random.below(2), probed: random.below(2) };
    const { chunk, nodes, read, values, delivered } = scene(shape, few);
    const lies = liesOf(chunk, shape, random);
    const order = [...nodes.keys()].sort(() => random.u32() - 2 ** 31);
    let right = 0;
    let lied = 0;
    for (const at of order) {
      if (nodes[at] instanceof DeafNode) continue;
      const kind = random.below(10);
      if (kind < 6 && !(nodes[at] instanceof ProbedNode)) right++;
      if (kind === 6) lied++;
      const others = ['absent', 'failed', 'busy', 'too large', random.bytes(60)] as const;
      const answer = kind < 6 ? values[at]! : kind === 6 ? lies[at]! : random.pick(others);
      await nodes[at]!.answer(answer);
    }
    const { sealed } = await read.report;
    assert.equal(delivered(), sealed, `seed ${random.seed}`);
    if (sealed !== undefined) assertSameBytes(sealed, chunk.sealed, `seed ${random.seed}`);
    const isPlain = right >= shape.dataShards && lied <= 1;
    assert.ok(!isPlain || sealed !== undefined, `seed ${random.seed}: a miss`);
    const most = right + few.probed;
    assert.ok(most >= shape.dataShards || sealed === undefined, `seed ${random.seed}: a hit`);
    for (const node of nodes) {
      assert.equal(node.judged.length, Number(!(node instanceof DeafNode)), `seed ${random.seed}`);
    }
  }
});
