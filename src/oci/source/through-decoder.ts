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
  // Both are waited for below, but may fail while nobody does.
  feeding.catch(() => {});
  decoder.on('error', () => {});
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
  /** The decoder has used it up, or never will. */
  done: Promise<void>;
}

class Feeder {
  readonly #decoder: Decoder;
  readonly #label: string;
  #writtenBytes = 0;
  /** Where the decoder saw the end of its data, if that was before the end of what was written. */
  #endedAtBytes: number | undefined;
  readonly #inFlight: Written[] = [];
  /** Of the writes in flight: Node may forget the callback of one that it does not use up. */
  readonly #wake = new Set<() => void>();

  constructor(decoder: Decoder, label: string) {
    this.#decoder = decoder;
    this.#label = label;
    decoder.once('end', () => {
      this.#endedAtBytes ??= decoder.bytesWritten;
      this.#wakeAll();
    });
    decoder.once('close', () => this.#wakeAll());
  }

  /** Ends the decoder after the last piece. Stops when the decoder is destroyed before its end. */
  async feed(pieces: AsyncIterable<Buffer>): Promise<void> {
    const decoder = this.#decoder;
    try {
      for await (const piece of pieces) {
        if (this.#endedAtBytes !== undefined) {
          this.#checkPadding(piece);
          continue;
        }
        if (decoder.destroyed) return;
        this.#inFlight.push({ piece, done: this.#write(piece) });
        if (this.#inFlight.length === piecesInFlightMax) await this.#oldest();
      }
      while (this.#inFlight.length > 0) await this.#oldest();
      if (this.#endedAtBytes === undefined) decoder.end();
    } catch (error) {
      decoder.destroy(error instanceof Error ? error : new Error(String(error)));
      throw error;
    }
  }

  #write(piece: Buffer): Promise<void> {
    const decoder = this.#decoder;
    this.#writtenBytes += piece.length;
    const endBytes = this.#writtenBytes;
    return new Promise(resolve => {
      this.#wake.add(resolve);
      decoder.write(piece, () => {
        // The next piece may be at work already, but is not counted before its own callback.
        if (!decoder.destroyed && decoder.bytesWritten < endBytes) {
          this.#endedAtBytes ??= decoder.bytesWritten;
        }
        this.#wake.delete(resolve);
        resolve();
      });
    });
  }

  async #oldest(): Promise<void> {
    await this.#inFlight[0]!.done;
    if (this.#endedAtBytes === undefined) this.#inFlight.shift();
    else this.#checkUnused(this.#writtenBytes - this.#endedAtBytes);
  }

  /** What the decoder left is at the end of the pieces in flight. */
  #checkUnused(unusedBytes: number): void {
    let left = unusedBytes;
    for (const { piece } of this.#inFlight.splice(0).reverse()) {
      const length = Math.min(left, piece.length);
      this.#checkPadding(piece.subarray(piece.length - length));
      left -= length;
    }
  }

  #checkPadding(bytes: Buffer): void {
    if (bytes.some(byte => byte !== 0)) throw trailingBytes(this.#label);
  }

  #wakeAll(): void {
    for (const resolve of this.#wake) resolve();
    this.#wake.clear();
  }
}

function trailingBytes(label: string): ImgstoreError {
  return new ImgstoreError('CORRUPT', `Cannot read ${label}: bytes follow its compressed data`, {
    hint: 'It is damaged; copy the image again.',
  });
}

function decodingError(error: unknown, label: string): unknown {
  const code: unknown = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  // The decoder had ended, and found more data in the next piece.
  if (code === 'ERR_STREAM_PUSH_AFTER_EOF') return trailingBytes(label);
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
