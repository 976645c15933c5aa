import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ImgstoreError } from '../../src/base/errors.ts';
import { TiB } from '../../src/base/limits.ts';
import { attributes, entryOut, errno, opcode, openFlag } from '../../src/fuse/format.ts';
import { Random, seeded } from '../support/random.ts';
import { type Harness, harness, readBody, request } from './harness.ts';

const content = new Random(7).bytes(10_000);
const [directory, file] = [6, 7]; // node ids of serial 3

function withFile(): Harness {
  const made = harness();
  made.nodes.add('m3', 3, {
    sizeBytes: content.length,
    read: (offset, length) => [content.subarray(offset, offset + length)],
  });
  return made;
}

function lookup(nodeId: number, name: string): Buffer {
  return request({ opcode: opcode.lookup, nodeId, body: Buffer.from(`${name}\0`, 'latin1') });
}

function read(nodeId: number, offset: number | bigint, sizeBytes: number): Buffer {
  return request({ opcode: opcode.read, nodeId, body: readBody(offset, sizeBytes) });
}

function open(nodeId: number, flags: number): Buffer {
  const body = Buffer.alloc(8);
  body.writeUInt32LE(flags);
  return request({ opcode: opcode.open, nodeId, body });
}

test('look-ups lead from the root to the disk, and nowhere else', () => {
  const { ask } = withFile();
  const found = ask(lookup(1, 'm3'))!;
  assert.equal(found.body.readBigUInt64LE(entryOut.nodeId), BigInt(directory));
  const disk = ask(lookup(directory, 'disk'))!;
  assert.equal(disk.body.readBigUInt64LE(entryOut.nodeId), BigInt(file));
  const at = entryOut.attributes;
  assert.equal(disk.body.readBigUInt64LE(at + attributes.size), BigInt(content.length));
  assert.equal(disk.body.readUInt32LE(at + attributes.mode), 0o100400);
  assert.equal(found.body.readUInt32LE(at + attributes.mode), 0o040500);
  for (const [parent, name] of [
    [1, 'm4'],
    [1, 'disk'],
    [1, ''],
    [1, 'm3/disk'],
    [directory, 'm3'],
    [file, 'disk'],
    [999, 'disk'],
    [2, 'disk'],
  ] as const) {
    assert.equal(ask(lookup(parent, name))?.error, errno.ENOENT, `${parent} ${name}`);
  }
  const unterminated = request({ opcode: opcode.lookup, body: Buffer.from('m3') });
  assert.equal(ask(unterminated)?.error, errno.EINVAL);
});

test('reads are cut at the end of the file', () => {
  const { ask } = withFile();
  assert.deepEqual(ask(read(file, 100, 200))?.body, content.subarray(100, 300));
  assert.deepEqual(ask(read(file, 9000, 4096))?.body, content.subarray(9000));
  assert.equal(ask(read(file, 10_000, 4096))?.body.length, 0);
  assert.equal(ask(read(file, 2 ** 40, 4096))?.body.length, 0);
  assert.equal(ask(read(file, 2n ** 64n - 1n, 1024 * 1024))?.body.length, 0);
  assert.equal(ask(read(file, 0, 0))?.body.length, 0);
  assert.equal(ask(read(file, 0, 1024 * 1024 + 1))?.error, errno.EINVAL, 'more than agreed');
});

test('only reading is allowed, and the page cache is kept', () => {
  const { ask } = withFile();
  assert.equal(
    ask(open(file, 0o100000))?.body.readUInt32LE(8),
    openFlag.keepCache | openFlag.noFlush,
  );
  assert.equal(ask(open(file, 1))?.error, errno.EROFS);
  assert.equal(ask(open(file, 2))?.error, errno.EROFS);
  assert.equal(ask(open(directory, 0))?.error, errno.ESTALE);
});

test('a file that is taken away is stale for whoever still holds it', () => {
  const { ask, nodes } = withFile();
  assert.equal(nodes.remove('m3'), true);
  assert.equal(nodes.remove('m3'), false);
  assert.equal(ask(read(file, 0, 10))?.error, errno.ESTALE);
  assert.equal(ask(open(file, 0))?.error, errno.ESTALE);
  assert.equal(ask(request({ opcode: opcode.getattr, nodeId: file }))?.error, errno.ESTALE);
  assert.equal(ask(request({ opcode: opcode.opendir, nodeId: directory }))?.error, errno.ESTALE);
  assert.equal(
    ask(request({ opcode: opcode.readdir, nodeId: directory, body: readBody(0, 99) }))?.error,
    errno.ESTALE,
  );
  assert.equal(ask(lookup(1, 'm3'))?.error, errno.ENOENT);
});

test('a serial or an id in use is a bug of the caller', () => {
  const { nodes } = withFile();
  const empty = { sizeBytes: 0, read: () => [] };
  assert.throws(() => nodes.add('m3', 4, empty), { name: 'AssertionError' });
  assert.throws(() => nodes.add('m4', 3, empty), { name: 'AssertionError' });
  for (const id of ['', '.', '..', 'a/b', 'a\0b', 'é', 'x'.repeat(256)]) {
    assert.throws(() => nodes.add(id, 4, empty), { name: 'AssertionError' }, id);
  }
  for (const serial of [0, -1, 1.5, 2 ** 51 + 2, Number.NaN]) {
    assert.throws(() => nodes.add('m4', serial, empty), { name: 'AssertionError' });
  }
});

test('faults are EIO for that read alone, told once in a while, and counted', async () => {
  const { ask, answers, nodes, logged, clock } = harness();
  let mode = 'reject';
  nodes.add('m3', 3, {
    sizeBytes: 100,
    read: (_, length) => {
      if (mode === 'throw') throw new Error('a bug');
      if (mode === 'reject') return Promise.reject(new ImgstoreError('IO', 'Cannot fetch: off'));
      if (mode === 'later') return Promise.resolve([Buffer.alloc(length, 1)]);
      if (mode === 'short') return [Buffer.alloc(length - 1)];
      return [Buffer.alloc(length + 1)];
    },
  });
  for (const [next, error] of [
    ['reject', errno.EIO],
    ['throw', errno.EIO],
    ['short', errno.EIO],
    ['long', errno.EIO],
    ['later', 0],
  ] as const) {
    mode = next;
    answers.length = 0;
    ask(read(file, 0, 50));
    await new Promise(resolve => setImmediate(resolve));
    assert.deepEqual(
      answers.map(answer => answer.error),
      [error],
      next,
    );
  }
  assert.equal(logged.length, 1);
  assert.match(logged[0]!, /^Cannot read from disk m3: Cannot fetch: off \(1 failed/);
  clock.nowMs = 10_000;
  mode = 'throw';
  ask(read(file, 0, 50));
  assert.match(logged[1]!, /a bug \(5 failed/);
  const [node] = nodes.all();
  const { failures, reads, bytes, inFlight, waits } = node!.stats;
  assert.deepEqual(
    { failures, reads, bytes, inFlight, waits },
    { failures: 5, reads: 1, bytes: 50, inFlight: 0, waits: 2 },
  );
});

test('slow reads are answered in any order, each with its own unique', async () => {
  const { ask, answers, nodes, clock } = harness();
  const finish: (() => void)[] = [];
  nodes.add('m3', 3, {
    sizeBytes: 100,
    read: (offset, length) =>
      new Promise(resolve => finish.push(() => resolve([Buffer.alloc(length, offset)]))),
  });
  const uniques = [5, 2 ** 40 + 3, 9];
  for (const [i, unique] of uniques.entries()) {
    ask(request({ opcode: opcode.read, nodeId: file, unique, body: readBody(i, 1) }));
  }
  assert.equal(nodes.all()[0]!.stats.inFlight, 3);
  clock.nowMs = 20;
  for (const i of [2, 0, 1]) {
    finish[i]!();
    await new Promise(resolve => setImmediate(resolve));
  }
  assert.deepEqual(
    answers.map(({ unique, body }) => [unique, body[0]]),
    [
      [9, 2],
      [5, 0],
      [2 ** 40 + 3, 1],
    ],
  );
  assert.equal(nodes.all()[0]!.stats.inFlight, 0);
  assert.equal(nodes.all()[0]!.stats.waitMs, 60);
});

test('a listing goes on where it stopped, whatever is added and removed meanwhile', () => {
  const { ask, nodes } = harness();
  const empty = { sizeBytes: 0, read: () => [] };
  for (let serial = 50; serial >= 1; serial--) nodes.add(`m${serial}`, serial, empty);
  const names: string[] = [];
  let offset = 0n;
  for (;;) {
    const body = readBody(offset, 200);
    const listing = ask(request({ opcode: opcode.readdir, body }))!.body;
    if (listing.length === 0) break;
    assert.ok(listing.length <= 200);
    for (let at = 0; at < listing.length; ) {
      const nameLength = listing.readUInt32LE(at + 16);
      names.push(listing.toString('latin1', at + 24, at + 24 + nameLength));
      offset = listing.readBigUInt64LE(at + 8);
      at += Math.ceil((24 + nameLength) / 8) * 8;
    }
    if (names.length < 10)
      for (let serial = 2; serial < 40; serial += 2) nodes.remove(`m${serial}`);
  }
  assert.deepEqual(names.slice(0, 3), ['.', '..', 'm1']);
  assert.deepEqual(names.slice(-2), ['m49', 'm50']);
  assert.equal(new Set(names).size, names.length);
  for (let serial = 1; serial <= 50; serial += 2) assert.ok(names.includes(`m${serial}`));
});

test('INIT of other protocols', () => {
  const { ask, inits } = harness();
  const init = (words: number[]): Buffer => {
    const body = Buffer.alloc(words.length * 4);
    words.forEach((word, i) => {
      body.writeUInt32LE(word, i * 4);
    });
    return request({ opcode: opcode.init, body });
  };
  const initExt = 2 ** 30;
  assert.equal(ask(init([7, 28, 131072, 0]))?.error, 0);
  assert.equal(ask(init([7, 38, 131072, initExt, 1 << 7]))?.error, 0);
  assert.equal(ask(init([7, 38, 131072, initExt]))?.error, 0, 'promised, but not there');
  assert.equal(ask(init([7, 38, 131072, 0, 1 << 7]))?.error, 0, 'there, but not promised');
  assert.equal(ask(init([8, 0, 131072, 0]))?.error, errno.EPROTO);
  assert.equal(ask(init([7, 27, 131072, 0]))?.error, errno.EPROTO);
  assert.equal(ask(init([7]))?.error, errno.EINVAL);
  assert.deepEqual(inits, [
    { protocolMinor: 28, resend: false },
    { protocolMinor: 36, resend: true },
    { protocolMinor: 36, resend: false },
    { protocolMinor: 36, resend: false },
    'UNSUPPORTED',
    'UNSUPPORTED',
  ]);
});

test('whatever comes, every request gets one answer', () => {
  const silent: number[] = [opcode.forget, opcode.batchForget, opcode.interrupt];
  const opcodes = Object.values(opcode);
  for (const random of seeded(3000)) {
    const { ask, answers, nodes } = harness();
    nodes.add('m3', 3, {
      sizeBytes: 16 * TiB,
      read: (_, length) => [Buffer.alloc(length)],
    });
    const code = random.chance(0.9) ? random.pick(opcodes) : random.u32();
    const body = random.bytes(random.below(random.chance(0.5) ? 60 : 4000));
    // Small numbers are where the branches are.
    for (let i = 0; i < body.length; i++) if (random.chance(0.6)) body[i] = random.below(3);
    const whole = request({ opcode: code, nodeId: random.below(9), body });
    const lie = random.chance(0.1);
    if (lie) whole.writeUInt32LE(random.u32(), 0);
    ask(whole);
    const expected = silent.includes(code) ? 0 : 1;
    assert.equal(answers.length, expected, `seed ${random.seed}, opcode ${code}`);
    const short = whole.subarray(0, random.below(40));
    ask(short);
    assert.equal(answers.length, expected, `seed ${random.seed}: no head, no answer`);
  }
});
