/** Bytes that grow in pieces: nothing is copied when they are many. */

import { assert } from '../../base/assert.ts';
import { KiB } from '../../base/limits.ts';

const pieceSizeBytes = 256 * KiB;
const varintSizeMaxBytes = 8;

export class ByteWriter {
  readonly #full: Buffer[] = [];
  #fullBytes = 0;
  #piece: Buffer = Buffer.alloc(0);
  #at = 0;

  get sizeBytes(): number {
    return this.#fullBytes + this.#at;
  }

  byte(value: number): void {
    this.#room(1);
    this.#piece[this.#at++] = value;
  }

  /** 0 to 2^53. */
  varint(value: number): void {
    assert(value >= 0 && value <= 2 ** 53, 'a number is within its range');
    this.#room(varintSizeMaxBytes);
    let left = value;
    for (; left >= 0x80; left = Math.floor(left / 0x80))
      this.#piece[this.#at++] = (left % 0x80) | 0x80;
    this.#piece[this.#at++] = left;
  }

  /** -2^53 to below 2^53: the next number, or 0 and the complement. */
  signed(value: number): void {
    if (value < 0) this.varint(0);
    this.varint(value < 0 ? -value - 1 : value + 1);
  }

  bytes(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#piece.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  /** The characters from `from` on, one byte each, behind their number. */
  text(text: string, from = 0): void {
    const tail = from === 0 ? text : text.slice(from);
    this.varint(tail.length);
    this.#room(tail.length);
    this.#at += this.#piece.write(tail, this.#at, tail.length, 'latin1');
  }

  u32(value: number): void {
    this.#room(4);
    this.#at = this.#piece.writeUInt32LE(value, this.#at);
  }

  /** All of it; the pieces are the caller's own. */
  finish(): Buffer[] {
    this.#close();
    return this.#full;
  }

  #room(sizeBytes: number): void {
    if (this.#piece.length - this.#at >= sizeBytes) return;
    this.#close();
    this.#piece = Buffer.allocUnsafeSlow(Math.max(pieceSizeBytes, sizeBytes));
  }

  #close(): void {
    if (this.#at > 0) this.#full.push(this.#piece.subarray(0, this.#at));
    this.#fullBytes += this.#at;
    this.#piece = Buffer.alloc(0);
    this.#at = 0;
  }
}
