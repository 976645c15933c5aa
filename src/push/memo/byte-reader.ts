/** The reverse of ByteWriter, over bytes that may be anything: BadMemo at the first that do not fit. */

import type { ByteString } from '../../base/byte-string.ts';
import { BadMemo } from '../../oci/layer/layer-memo.ts';

export class ByteReader {
  readonly #bytes: Buffer;
  readonly #end: number;
  #at: number;

  /** From `at` to before `end`. */
  constructor(bytes: Buffer, at: number, end: number) {
    this.#bytes = bytes;
    this.#at = at;
    this.#end = end;
  }

  get leftBytes(): number {
    return this.#end - this.#at;
  }

  byte(): number {
    return this.#bytes[this.#take(1)]!;
  }

  /** 0 to 2^53. */
  varint(): number {
    let value = 0;
    let scale = 1;
    for (let count = 0; count < 8; count++) {
      const byte = this.byte();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (value > 2 ** 53) break;
        return value;
      }
      scale *= 0x80;
    }
    throw new BadMemo('a number is beyond its range');
  }

  signed(): number {
    const value = this.varint();
    return value > 0 ? value - 1 : -this.varint() - 1;
  }

  /** A view. */
  bytes(sizeBytes: number): Buffer {
    const at = this.#take(sizeBytes);
    return this.#bytes.subarray(at, at + sizeBytes);
  }

  text(): ByteString {
    const sizeBytes = this.varint();
    const at = this.#take(sizeBytes);
    return this.#bytes.toString('latin1', at, at + sizeBytes) as ByteString;
  }

  #take(sizeBytes: number): number {
    const at = this.#at;
    if (sizeBytes > this.#end - at) throw new BadMemo('it ends too early');
    this.#at = at + sizeBytes;
    return at;
  }
}
