/**
 * Packs of small files from packs that are stored: when an image hides another few files of a layer
 * than the one before, the packs around these are cut otherwise, and all of their bytes are in the
 * store.
 */

import { sha256 } from '../../base/digest.ts';
import { hasCode } from '../../base/errors.ts';
import { blockSizeBytes } from '../../base/limits.ts';
import { chunkIdOf, openChunk } from '../../seal/seal.ts';
import { chunkObjectKey } from '../../store/format.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import type { StoredChunk } from '../chunk-uploader.ts';

export interface PackPart {
  digest: Buffer;
  sizeBytes: number;
  /** The pack that holds it now. */
  from: StoredChunk;
  offsetBytes: number;
}

interface Options {
  signal?: AbortSignal | undefined;
}

/** Neighbours come out of the same packs: so many are kept, 1 MiB each at most. */
const keptMax = 4;

export class PackMaker {
  readonly #chunks: Pick<ObjectStore, 'get'>;
  readonly #options: { signal?: AbortSignal };
  readonly #kept = new Map<StoredChunk, Promise<Buffer | undefined>>();

  constructor(chunks: Pick<ObjectStore, 'get'>, { signal }: Options) {
    this.#chunks = chunks;
    this.#options = signal === undefined ? {} : { signal };
  }

  /** Undefined if what is stored is not, or not any more, what the files were. */
  async make(parts: readonly PackPart[]): Promise<Buffer | undefined> {
    const sizeBytes = parts.reduce((sum, part) => sum + alignedSize(part.sizeBytes), 0);
    const pack = Buffer.alloc(sizeBytes);
    let at = 0;
    for (const { digest, sizeBytes, from, offsetBytes } of parts) {
      const stored = await this.#plain(from);
      const bytes = stored?.subarray(offsetBytes, offsetBytes + sizeBytes);
      if (bytes === undefined || !sha256(bytes).equals(digest)) return undefined;
      pack.set(bytes, at);
      at += alignedSize(sizeBytes);
    }
    return pack;
  }

  #plain(chunk: StoredChunk): Promise<Buffer | undefined> {
    let plain = this.#kept.get(chunk);
    if (plain !== undefined) return plain;
    plain = this.#fetch(chunk);
    this.#kept.set(chunk, plain);
    if (this.#kept.size > keptMax) this.#kept.delete(this.#kept.keys().next().value!);
    return plain;
  }

  async #fetch({ id, key, plainSizeBytes, sealedSizeBytes }: StoredChunk) {
    try {
      const limits = { ...this.#options, sizeMaxBytes: sealedSizeBytes };
      const sealed = await this.#chunks.get(chunkObjectKey(id), limits);
      if (sealed === undefined || chunkIdOf(sealed) !== id) return undefined;
      return await openChunk(sealed, { key, plainSizeBytes });
    } catch (error) {
      if (hasCode(error, ['CORRUPT', 'LIMIT', 'UNSUPPORTED'])) return undefined;
      throw error;
    }
  }
}

/** What a file takes in a pack. */
export function alignedSize(sizeBytes: number): number {
  return Math.ceil(sizeBytes / blockSizeBytes) * blockSizeBytes;
}
