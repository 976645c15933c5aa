import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MiB } from '../../src/base/limits.ts';
import { type Piece, windowsOf } from '../../src/erofs/region.ts';
import { seeded } from '../support/random.ts';

function pieceOf(offsetBytes: number, bytes: Buffer): Piece {
  return {
    offsetBytes,
    lengthBytes: bytes.length,
    fill: (target, at) => void bytes.copy(target, at),
  };
}

test('pieces of any size end up at their offsets, zeros between them', () => {
  for (const random of seeded(30)) {
    const sizeBytes = random.between(1, 5 * MiB);
    const expected = Buffer.alloc(sizeBytes);
    const pieces: Piece[] = [];
    for (let at = random.below(100_000); at < sizeBytes; ) {
      const most = random.chance(0.1) ? 3 * MiB : 50_000;
      const length = Math.min(sizeBytes - at, random.between(1, most));
      const bytes = Buffer.alloc(length, random.between(1, 255));
      bytes.copy(expected, at);
      pieces.push(pieceOf(at, bytes));
      at += length + random.pick([0, random.below(50_000), random.below(3 * MiB)]);
    }
    const windows = [...windowsOf(pieces, sizeBytes)];
    assert.ok(
      windows.every(window => window.length <= MiB),
      `seed ${random.seed}`,
    );
    assert.ok(Buffer.concat(windows).equals(expected), `seed ${random.seed}`);
  }
});

test('a region without pieces is zeros', () => {
  const windows = [...windowsOf([], 2 * MiB)];
  assert.deepEqual(
    windows.map(window => window.length),
    [MiB, MiB],
  );
});

test('a piece out of order or beyond the end is a bug', () => {
  const far = pieceOf(3 * MiB, Buffer.alloc(10));
  const near = pieceOf(0, Buffer.alloc(10));
  assert.throws(() => [...windowsOf([far, near], 4 * MiB)], { name: 'AssertionError' });
  assert.throws(() => [...windowsOf([far], 3 * MiB + 9)], { name: 'AssertionError' });
});
