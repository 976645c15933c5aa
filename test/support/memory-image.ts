/** A source image of tars in memory, and a sink that keeps what it is given. */

import { type OciDigest, ociDigest } from '../../src/base/digest.ts';
import type { SourceImage } from '../../src/oci/source-image.ts';
import type { ContentSink, FileContent } from '../../src/tree/tree.ts';

export interface MemoryImageOptions {
  /** Bytes of each buffer that a layer arrives in; all at once by default. */
  bufferBytes?: number;
}

/** Bottom layer first; counts in `opened` how often each was read. */
export class MemoryImage implements SourceImage {
  readonly reference = 'memory:test';
  readonly manifestDigest = ociDigest(Buffer.from('manifest'));
  readonly platform = { os: 'linux', architecture: 'amd64' };
  readonly configText = '{}';
  readonly layers: { digest: OciDigest; sizeBytes: number; diffId: OciDigest }[];
  readonly opened: number[];
  readonly #tars: readonly Buffer[];
  readonly #bufferBytes: number;

  constructor(tars: readonly Buffer[], options: MemoryImageOptions = {}) {
    this.#tars = tars;
    this.#bufferBytes = options.bufferBytes ?? Number.MAX_SAFE_INTEGER;
    this.opened = tars.map(() => 0);
    this.layers = tars.map(tar => {
      const digest = ociDigest(tar);
      return { digest, sizeBytes: tar.length, diffId: digest };
    });
  }

  async *openLayer(index: number, options: { signal?: AbortSignal }): AsyncIterable<Buffer> {
    this.opened[index]!++;
    const tar = this.#tars[index]!;
    for (let at = 0; at < tar.length; at += this.#bufferBytes) {
      options.signal?.throwIfAborted();
      yield tar.subarray(at, at + this.#bufferBytes);
    }
  }

  async close(): Promise<void> {}
}

/** Keeps every content by its ordinal; `log` tells what happened in which order. */
export class ContentKeeper implements ContentSink {
  readonly log: string[] = [];
  readonly #kept = new Map<number, Buffer>();
  #content: FileContent | undefined;
  #parts: Buffer[] = [];

  begin(content: FileContent): undefined {
    if (this.#content !== undefined) throw new Error('a content begins inside another');
    if (this.#kept.has(content.ordinal)) throw new Error(`content ${content.ordinal} comes twice`);
    this.#content = content;
    this.log.push(`${content.ordinal}`);
  }

  write(bytes: Uint8Array): undefined {
    this.#parts.push(Buffer.from(bytes));
  }

  end(): undefined {
    this.#kept.set(this.#content!.ordinal, Buffer.concat(this.#parts));
    this.#content = undefined;
    this.#parts = [];
  }

  layerEnd(): undefined {
    if (this.#content !== undefined) throw new Error('a layer ends inside a content');
    this.log.push('layer');
  }

  /** The bytes of the data runs, one after the other. */
  stored(content: FileContent): Buffer {
    const stored = this.#kept.get(content.ordinal);
    if (stored === undefined) throw new Error(`content ${content.ordinal} never came`);
    return stored;
  }

  /** The whole file, holes as zeros. */
  bytes(content: FileContent): Buffer {
    const stored = this.stored(content);
    if (content.runs === undefined) return stored;
    const file = Buffer.alloc(content.sizeBytes);
    let at = 0;
    for (const { offsetBytes, lengthBytes } of content.runs) {
      stored.copy(file, offsetBytes, at, at + lengthBytes);
      at += lengthBytes;
    }
    return file;
  }
}
