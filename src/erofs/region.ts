/**
 * A run of bytes made piece by piece, in order, and given away in windows. Only the current window
 * is in memory; what no piece covers is zero.
 */

import { assert } from '../base/assert.ts';
import { MiB } from '../base/limits.ts';

const windowSizeBytes = 1 * MiB;

export interface Piece {
  offsetBytes: number;
  lengthBytes: number;
  /** Writes the piece to zeroed bytes from `at` on. */
  fill(target: Buffer, at: number): void;
}

/** `pieces` do not overlap and come in order of their offsets. */
export function* windowsOf(pieces: Iterable<Piece>, sizeBytes: number): Generator<Buffer> {
  let start = 0;
  let window = Buffer.alloc(Math.min(windowSizeBytes, sizeBytes));
  const next = (): Buffer => {
    const full = window;
    start += full.length;
    window = Buffer.alloc(Math.min(windowSizeBytes, sizeBytes - start));
    return full;
  };
  for (const piece of pieces) {
    assert(piece.offsetBytes >= start, 'pieces come in order');
    assert(piece.offsetBytes + piece.lengthBytes <= sizeBytes, 'pieces are within the region');
    while (piece.offsetBytes >= start + window.length) yield next();
    const at = piece.offsetBytes - start;
    if (at + piece.lengthBytes <= window.length) {
      piece.fill(window, at);
      continue;
    }
    const bytes = Buffer.alloc(piece.lengthBytes);
    piece.fill(bytes, 0);
    let copied = bytes.copy(window, at);
    while (copied < bytes.length) {
      yield next();
      copied += bytes.copy(window, 0, copied);
    }
  }
  while (window.length > 0) yield next();
}
