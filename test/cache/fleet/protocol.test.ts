import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type AnswerLine,
  AnswerParser,
  getRequest,
  ProtocolFault,
  setRequest,
} from '../../../src/cache/fleet/protocol.ts';
import { type Random, seeded } from '../../support/random.ts';

interface Parsed {
  lines: AnswerLine[];
  values: (Buffer | undefined)[];
  ends: number;
}

/** Feeds the bytes in pieces, through one buffer that is overwritten, as a connection does. */
function parse(bytes: Buffer, pieceBytes: () => number, keep = () => true): Parsed {
  const parsed: Parsed = { lines: [], values: [], ends: 0 };
  const parser = new AnswerParser({
    begin(line) {
      parsed.lines.push(line);
      const value = line.kind === 'value' && keep() ? Buffer.alloc(line.sizeBytes) : undefined;
      parsed.values.push(value);
      return value;
    },
    end: () => void parsed.ends++,
  });
  for (let at = 0; at < bytes.length; ) {
    const piece = Buffer.from(bytes.subarray(at, at + pieceBytes()));
    parser.push(piece);
    at += piece.length;
    piece.fill(0x55);
  }
  return parsed;
}

function randomAnswers(random: Random): { bytes: Buffer; lines: AnswerLine[]; values: Buffer[] } {
  const parts: Buffer[] = [];
  const lines: AnswerLine[] = [];
  const values: Buffer[] = [];
  for (let opaque = 0; opaque < 20; opaque++) {
    const kind = random.pick(['value', 'done', 'absent', 'not stored'] as const);
    if (kind === 'value') {
      const value = random.bytes(random.pick([0, 1, 2, 100, 5000]));
      parts.push(Buffer.from(`VA ${value.length} O${opaque}\r\n`), value, Buffer.from('\r\n'));
      lines.push({ kind, sizeBytes: value.length, opaque });
      values.push(value);
    } else {
      const code = { done: 'HD', absent: random.pick(['EN', 'NF']), 'not stored': 'NS' }[kind];
      parts.push(Buffer.from(`${code} O${opaque}\r\n`));
      lines.push({ kind, opaque });
    }
  }
  return { bytes: Buffer.concat(parts), lines, values };
}

test('answers are read however they are cut', () => {
  for (const random of seeded(60)) {
    const { bytes, lines, values } = randomAnswers(random);
    const longest = random.pick([1, 3, 700, 20_000]);
    const parsed = parse(bytes, () => random.between(1, longest));
    assert.deepEqual(parsed.lines, lines, `seed ${random.seed}`);
    const found = parsed.values.filter(value => value !== undefined);
    assert.ok(Buffer.concat(found).equals(Buffer.concat(values)), `seed ${random.seed}`);
    assert.equal(parsed.ends, lines.length, `seed ${random.seed}`);
  }
});

test('values that nobody wants pass, and what follows is read', () => {
  for (const random of seeded(20)) {
    const { bytes, lines } = randomAnswers(random);
    const parsed = parse(
      bytes,
      () => random.between(1, 3000),
      () => random.chance(0.5),
    );
    assert.deepEqual(parsed.lines, lines, `seed ${random.seed}`);
    assert.equal(parsed.ends, lines.length, `seed ${random.seed}`);
  }
});

test('errors of the server, and misses without the opaque token', () => {
  const parsed = parse(Buffer.from('EN\r\nSERVER_ERROR out of memory\r\nHD O3\r\n'), () => 5);
  assert.deepEqual(parsed.lines, [
    { kind: 'absent', opaque: undefined },
    { kind: 'refused', opaque: undefined },
    { kind: 'done', opaque: 3 },
  ]);
});

for (const [name, bytes] of [
  ['another protocol', 'HTTP/1.1 400 Bad Request\r\n'],
  ['an error that means lost step', 'CLIENT_ERROR bad data chunk\r\n'],
  ['an unknown command', 'ERROR\r\n'],
  ['a size that is none', 'VA -1 O1\r\n'],
  ['a size with an exponent', 'VA 1e9 O1\r\n'],
  ['a size beyond numbers', `VA ${'9'.repeat(30)} O1\r\n`],
  ['no size', 'VA\r\n'],
  ['an opaque token that is none', 'HD Ox\r\n'],
  ['a line without a return', 'HD O1\n'],
  ['an empty line', '\r\n'],
  ['a value that is longer than it says', 'VA 3 O1\r\nabcd\r\n'],
  ['a value that is shorter than it says', 'VA 3 O1\r\nab\r\nHD O2\r\n'],
  ['a line without an end', 'x'.repeat(600)],
] as const) {
  test(`refused: ${name}`, () => {
    for (const pieceBytes of [1, 7, 1000]) {
      assert.throws(() => parse(Buffer.from(bytes), () => pieceBytes), ProtocolFault);
    }
  });
}

test('random bytes are refused or wait for more, within a line', () => {
  for (const random of seeded(200)) {
    const parsed = () => parse(random.bytes(2000), () => random.between(1, 600));
    assert.throws(parsed, ProtocolFault, `seed ${random.seed}`);
  }
});

test('a key cannot smuggle a command', () => {
  for (const key of ['', 'a b', 'a\r\nflush_all', 'é', 'x'.repeat(251)]) {
    assert.throws(() => getRequest(key, 1), { name: 'AssertionError' });
    assert.throws(() => setRequest(key, { sizeBytes: 1 }, 1), { name: 'AssertionError' });
  }
});
