/**
 * Downloads of layers ahead of who reads them: while one is being read, the next few have begun. What
 * that saves is the wait for token, redirect and connection of each, and whole small layers. The
 * reader may say which are next; one that it will not read is not downloaded.
 *
 * Invariants: of each download at most about `aheadPiecesMax` pieces of 64 KiB are in memory, and at
 * most `layersAheadMax` downloads nobody reads yet. A layer is begun ahead of time once at most, so
 * who reads some layers a second time causes no others.
 */

import { Readable } from 'node:stream';
import type { OciDigest } from '../../base/digest.ts';
import type { ReadBlobOptions } from '../source/blob-source.ts';

const layersAheadMax = 3;
/** 8 MiB. */
const aheadPiecesMax = 128;

export type StartDownload = (digest: OciDigest, signal: AbortSignal) => AsyncIterable<Buffer>;

export class LayerDownloads {
  readonly #order: readonly OciDigest[];
  readonly #start: StartDownload;
  readonly #ahead = new Map<OciDigest, Download>();
  readonly #begun = new Set<OciDigest>();

  /** `order` is the one in which the layers are read by who does not say what is next. */
  constructor(order: readonly OciDigest[], start: StartDownload) {
    this.#order = order;
    this.#start = start;
  }

  async *read(digest: OciDigest, { signal, ahead }: ReadBlobOptions): AsyncGenerator<Buffer, void> {
    const download = this.#ahead.get(digest) ?? this.#begin(digest);
    this.#ahead.delete(digest);
    const stop = () => download.stop(signal?.reason);
    signal?.addEventListener('abort', stop, { once: true });
    try {
      signal?.throwIfAborted();
      this.#beginNext(ahead ?? this.#order.slice(this.#order.indexOf(digest) + 1));
      yield* download.pieces();
    } finally {
      signal?.removeEventListener('abort', stop);
      download.stop();
    }
  }

  /** Ends what nobody reads. */
  close(): void {
    for (const download of this.#ahead.values()) download.stop();
    this.#ahead.clear();
  }

  #beginNext(order: readonly OciDigest[]): void {
    for (const each of order.slice(0, layersAheadMax)) {
      if (this.#ahead.size >= layersAheadMax || this.#begun.has(each)) continue;
      this.#ahead.set(each, this.#begin(each));
    }
  }

  #begin(digest: OciDigest): Download {
    this.#begun.add(digest);
    return new Download(signal => this.#start(digest, signal));
  }
}

/** One download that runs ahead by itself. */
class Download {
  readonly #controller = new AbortController();
  readonly #stream: Readable;

  constructor(start: (signal: AbortSignal) => AsyncIterable<Buffer>) {
    const source = start(this.#controller.signal);
    this.#stream = Readable.from(source, { highWaterMark: aheadPiecesMax });
    this.#stream.on('error', () => {}); // the reader is told when it comes
    this.#stream.read(0);
  }

  pieces(): AsyncIterable<Buffer> {
    return this.#stream;
  }

  stop(reason?: unknown): void {
    this.#controller.abort(reason);
    if (reason === undefined) this.#stream.destroy();
  }
}
