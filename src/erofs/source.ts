/** A disk as bytes at offsets, and the pages of it that a reader keeps at hand. */

import { assert } from '../base/assert.ts';
import { ImgstoreError } from '../base/errors.ts';
import { KiB } from '../base/limits.ts';

/**
 * read: exactly the bytes asked for, which are within the disk; several reads may be under way at
 * once. The buffer is shared: nobody writes to it. Faults are ImgstoreErrors.
 */
export interface DiskSource {
  readonly sizeBytes: number;
  read(offsetBytes: number, lengthBytes: number): Promise<Buffer>;
}

const pageSizeBytes = 64 * KiB;
const pagesMax = 64;

/** Small reads of a source, through its last used pages. A fault is not kept. */
export class PagedSource {
  readonly #source: DiskSource;
  /** Least recently used first. */
  readonly #pages = new Map<number, Buffer | Promise<Buffer>>();

  constructor(source: DiskSource) {
    this.#source = source;
  }

  get sizeBytes(): number {
    return this.#source.sizeBytes;
  }

  /** `what` names what is read in errors; CORRUPT if it is not within the disk. */
  async read(offsetBytes: number, lengthBytes: number, what: string): Promise<Buffer> {
    assert(lengthBytes >= 0 && offsetBytes >= 0, 'a read has an extent');
    if (offsetBytes + lengthBytes > this.sizeBytes)
      throw new ImgstoreError('CORRUPT', `Cannot read ${what}: it is beyond the end of the disk`);
    const parts: Buffer[] = [];
    for (let at = offsetBytes; at < offsetBytes + lengthBytes; ) {
      const page = Math.floor(at / pageSizeBytes);
      const start = at - page * pageSizeBytes;
      const end = Math.min(pageSizeBytes, start + offsetBytes + lengthBytes - at);
      const bytes = this.#page(page);
      parts.push((bytes instanceof Buffer ? bytes : await bytes).subarray(start, end));
      at += end - start;
    }
    return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
  }

  #page(page: number): Buffer | Promise<Buffer> {
    const known = this.#pages.get(page);
    if (known !== undefined) {
      this.#pages.delete(page);
      this.#pages.set(page, known);
      return known;
    }
    const loading = this.#load(page);
    this.#pages.set(page, loading);
    for (const oldest of this.#pages.keys()) {
      if (this.#pages.size <= pagesMax) break;
      this.#pages.delete(oldest);
    }
    return loading;
  }

  async #load(page: number): Promise<Buffer> {
    const offsetBytes = page * pageSizeBytes;
    const lengthBytes = Math.min(pageSizeBytes, this.sizeBytes - offsetBytes);
    try {
      const bytes = await this.#source.read(offsetBytes, lengthBytes);
      if (bytes.length !== lengthBytes) {
        throw new ImgstoreError(
          'CORRUPT',
          `Cannot read the disk at byte ${offsetBytes}: ${bytes.length} bytes came, not ${lengthBytes}`,
        );
      }
      if (this.#pages.has(page)) this.#pages.set(page, bytes);
      return bytes;
    } catch (error) {
      this.#pages.delete(page);
      throw error;
    }
  }
}
