/**
 * Bytes through one of Node's decoders, with what Node leaves to its callers: the decoder is kept
 * busy, what follows its data is looked at, and whoever stops first leaves nothing running.
 */

import type { Gunzip, ZstdDecompress } from 'node:zlib';
import { ImgstoreError } from '../../base/errors.ts';

export type Decoder = Gunzip | ZstdDecompress;

/** With one piece waiting, the decoder goes on by itself when the other is used up. */
const piecesInFlightMax = 2;

/**
 * The decoded pieces. Errors of `pieces` come through as they are; what the decoder refuses, and
 * bytes other than zeros after its data, are CORRUPT. `label` names the bytes in messages.
 */
export async function* through(
  decoder: Decoder,
  pieces: AsyncIterable<Buffer>,
  label: string,
): AsyncGenerator<Buffer, void> {
  const feeding = new Feeder(decoder, label).feed(pieces);
  feeding.catch(() => {}); // awaited below; it may fail before that
  try {
    for await (const piece of decoder) yield piece;
    // All is decoded, but not yet all read: what follows the data, and whether the blob was whole.
    await feeding;
  } catch (error) {
    throw decodingError(error, label);
  } finally {
    decoder.destroy();
    await Promise.allSettled([feeding]);
  }
}

interface Written {
  piece: Buffer;
  /** The decoder has used it up, or will never use it. */
  done: Promise<void>;
}

class Feeder {
  readonly #decoder: Decoder;
  readonly #label: string;
  /** The decoder has seen the end of its data, which may be before the end of what was written. */
  #ended = false;
  #writtenBytes = 0;
  readonly #inFlight: Written[] = [];
  /** Of the writes in flight: Node forgets the callbacks of those that it never uses. */
  readonly #wake = new Set<() => void>();

  constructor(decoder: Decoder, label: string) {
    this.#decoder = decoder;
    this.#label = label;
    decoder.once('end', () => {
      this.#ended = true;
      this.#wakeAll();
    });
    decoder.once('close', () => this.#wakeAll());
  }

  /** Ends the decoder after the last piece. Stops when the decoder is destroyed before its end. */
  async feed(pieces: AsyncIterable<Buffer>): Promise<void> {
    const decoder = this.#decoder;
    try {
      for await (const piece of pieces) {
        if (this.#ended) {
          this.#checkPadding(piece);
          continue;
        }
        if (decoder.destroyed) return;
        this.#inFlight.push({ piece, done: this.#write(piece) });
        if (this.#inFlight.length === piecesInFlightMax) await this.#oldest();
      }
      while (this.#inFlight.length > 0) await this.#oldest();
      if (!this.#ended) decoder.end();
    } catch (error) {
      decoder.destroy(error instanceof Error ? error : new Error(String(error)));
      throw error;
    }
  }

  #write(piece: Buffer): Promise<void> {
    this.#writtenBytes += piece.length;
    return new Promise(resolve => {
      this.#wake.add(resolve);
      this.#decoder.write(piece, () => {
        this.#wake.delete(resolve);
        resolve();
      });
    });
  }

  async #oldest(): Promise<void> {
    await this.#inFlight[0]!.done;
    if (this.#ended) this.#checkUnused();
    else this.#inFlight.shift();
  }

  /** The pieces in flight hold, at their end, what the decoder left. */
  #checkUnused(): void {
    let unusedBytes = this.#writtenBytes - this.#decoder.bytesWritten;
    for (const { piece } of this.#inFlight.splice(0).reverse()) {
      const length = Math.min(unusedBytes, piece.length);
      this.#checkPadding(piece.subarray(piece.length - length));
      unusedBytes -= length;
    }
  }

  #checkPadding(bytes: Buffer): void {
    if (bytes.every(byte => byte === 0)) return;
    throw new ImgstoreError(
      'CORRUPT',
      `Cannot read ${this.#label}: bytes follow its compressed data`,
      { hint: 'It is damaged; copy the image again.' },
    );
  }

  #wakeAll(): void {
    for (const resolve of this.#wake) resolve();
    this.#wake.clear();
  }
}

function decodingError(error: unknown, label: string): unknown {
  const code: unknown = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  if (typeof code !== 'string' || !/^Z(STD)?_/.test(code)) return error;
  const state =
    code === 'Z_BUF_ERROR'
      ? 'it ends in the middle of its compressed data'
      : 'its compressed data is damaged';
  return new ImgstoreError('CORRUPT', `Cannot read ${label}: ${state}`, {
    hint: 'Copy the image again.',
    cause: error,
  });
}
