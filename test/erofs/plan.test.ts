import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ByteString } from '../../src/base/byte-string.ts';
import { type InodePlan, pathOf, planInodes } from '../../src/erofs/plan.ts';
import { type Given, TreeMaker } from '../support/disk-file.ts';

const maker = new TreeMaker();
const at = (mtimeSeconds: number, mtimeNanoseconds = 0): Given => ({
  mtimeSeconds,
  mtimeNanoseconds,
});

const pathsOf = ({ inodes }: InodePlan): string[] => inodes.map(pathOf);

test('a directory is followed by its other children; the first levels come breadth first', () => {
  const { directory, fifo } = {
    directory: maker.directory.bind(maker),
    fifo: maker.fifo.bind(maker),
  };
  const deep = () => directory({ x: directory({ y: directory({ f: fifo() }), z: fifo() }) });
  const plan = planInodes({
    root: directory({
      b: directory({ '1': directory({ d: deep(), c: deep() }), '0': fifo() }),
      a: directory({ '1': directory({ e: deep() }) }),
      c: fifo(),
      '-': fifo(),
    }),
  });
  assert.deepEqual(
    pathsOf(plan).join(' '),
    '/ /- /c /a /b /b/0 /a/1 /b/1 /a/1/e /b/1/c /b/1/d ' +
      '/a/1/e/x /a/1/e/x/z /a/1/e/x/y /a/1/e/x/y/f ' +
      '/b/1/c/x /b/1/c/x/z /b/1/c/x/y /b/1/c/x/y/f ' +
      '/b/1/d/x /b/1/d/x/z /b/1/d/x/y /b/1/d/x/y/f',
  );
});

test('an inode with many names stands where its first name is, and counts them', () => {
  const one = maker.file('x');
  const plan = planInodes({
    root: maker.directory({ b: one, a: one, d: maker.directory({ c: one }) }),
  });
  assert.deepEqual(pathsOf(plan), ['/', '/a', '/d']);
  assert.deepEqual(
    plan.inodes.map(planned => planned.linkCount),
    [3, 3, 2],
  );
  assert.equal(plan.contentBytes, 1);
});

test('a directory lists the dots in order among its names', () => {
  const plan = planInodes({
    root: maker.directory({ '!': maker.fifo(), a: maker.directory(), '..a': maker.fifo() }),
  });
  const [root] = plan.inodes;
  assert.deepEqual(root!.names, ['!', '.', '..', '..a', 'a']);
  assert.equal(root!.children[1], root);
  assert.equal(root!.children[2], root);
  const inner = root!.children[4]!;
  assert.equal(inner.children[inner.names.indexOf('..' as ByteString)], root);
});

test('the epoch is the most frequent time, of several the earliest', () => {
  const epochOf = (...times: Given[]): [number, number] => {
    const root = maker.directory({}, times[0]);
    for (const [i, time] of times.slice(1).entries())
      root.entries.set(`f${i}` as ByteString, maker.fifo(time));
    const plan = planInodes({ root });
    return [plan.epochSeconds, plan.epochNanoseconds];
  };
  assert.deepEqual(epochOf(at(5)), [5, 0]);
  assert.deepEqual(epochOf(at(5), at(9), at(9)), [9, 0]);
  assert.deepEqual(epochOf(at(9), at(5), at(9), at(5)), [5, 0]);
  assert.deepEqual(epochOf(at(5, 3), at(5, 2), at(-1, 999)), [-1, 999]);
  assert.deepEqual(epochOf(at(5, 3), at(5, 2)), [5, 2]);
  // An inode that cannot be compact has no say.
  const big = { ...at(1), uid: 0x10000 };
  assert.deepEqual(epochOf(at(5), big, big, big), [5, 0]);
});

test('a tree that breaks its invariants is a bug', () => {
  const bug = (root: ReturnType<TreeMaker['directory']>): void =>
    assert.throws(() => planInodes({ root }), { name: 'AssertionError' });
  const shared = maker.directory();
  bug(maker.directory({ a: shared, b: shared }));
  const cycle = maker.directory();
  cycle.entries.set('a' as ByteString, cycle);
  bug(cycle);
  for (const name of ['', '.', '..', 'a/b', 'a\0']) bug(maker.directory({ [name]: maker.fifo() }));
  bug(maker.directory({ a: maker.fifo({ uid: -1 }) }));
  bug(maker.directory({ a: maker.fifo({ gid: 2 ** 32 }) }));
  bug(maker.directory({ a: maker.fifo({ mode: 0o10000 }) }));
  bug(maker.directory({ a: maker.fifo({ mtimeNanoseconds: 1e9 }) }));
  bug(maker.directory({ a: maker.fifo({ mtimeSeconds: 0.5 }) }));
  bug(maker.directory({ a: maker.symlink('') }));
});

test('a path in a message is printable and not long', () => {
  let inner = maker.directory({ ['\n\xff']: maker.fifo() });
  const short = planInodes({ root: inner }).inodes.at(-1)!;
  assert.equal(pathOf(short), '/\\nÿ');
  for (let i = 0; i < 50; i++) inner = maker.directory({ ['x'.repeat(255)]: inner });
  const long = pathOf(planInodes({ root: inner }).inodes.at(-1)!);
  assert.equal(long.length, 301);
  assert.match(long, /^\/x+…x+\//);
});
