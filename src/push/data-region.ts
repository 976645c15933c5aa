/**
 * The data region of a disk while it grows: chunks in the order in which they were cut, and where
 * each file content lies in them. Offsets are given only at the end, when the tree says which
 * contents it needs: a chunk that holds none of them is left out of the disk.
 */

import { assert } from '../base/assert.ts';
import type { Extent, Placement } from '../erofs/writer.ts';
import type { FileContent } from '../tree/tree.ts';
import type { ChunkTicket } from './chunk-uploader.ts';

/** A part of a file in one chunk; `chunk` counts the chunks of the region from 0. */
export interface Piece {
  chunk: number;
  chunkOffsetBytes: number;
  fileOffsetBytes: number;
  lengthBytes: number;
}

export type ContentRecord =
  | { kind: 'inline'; bytes: Buffer }
  | { kind: 'pieces'; pieces: readonly Piece[] };

export interface DataLayout {
  sizeBytes: number;
  chunks: readonly ChunkTicket[];
  placementOf(content: FileContent): Placement;
}

export class DataRegion {
  readonly #chunks: ChunkTicket[] = [];
  readonly #records = new Map<number, ContentRecord>();
  #sizeBytes = 0;

  /** Appends a chunk; gives its number. */
  append(ticket: ChunkTicket): number {
    this.#sizeBytes += ticket.plainSizeBytes;
    return this.#chunks.push(ticket) - 1;
  }

  /** Of all chunks, needed or not. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  get chunkCount(): number {
    return this.#chunks.length;
  }

  /** The chunk of a number that `append` gave. */
  chunk(number: number): ChunkTicket {
    return this.#chunks[number]!;
  }

  record(content: FileContent, record: ContentRecord): void {
    this.#records.set(content.ordinal, record);
  }

  /** Lays out what the given contents need, in the order in which it was cut. */
  layout(contents: Iterable<FileContent>): DataLayout {
    const offsets = new Float64Array(this.#chunks.length).fill(-1);
    for (const content of contents) {
      const record = this.#recordOf(content);
      if (record.kind === 'inline') continue;
      for (const piece of record.pieces) offsets[piece.chunk] = 0;
    }
    const chunks: ChunkTicket[] = [];
    let sizeBytes = 0;
    this.#chunks.forEach((ticket, index) => {
      if (offsets[index] === -1) return;
      offsets[index] = sizeBytes;
      sizeBytes += ticket.plainSizeBytes;
      chunks.push(ticket);
    });
    return { sizeBytes, chunks, placementOf: content => this.#placement(content, offsets) };
  }

  #placement(content: FileContent, offsets: Float64Array): Placement {
    const record = this.#recordOf(content);
    if (record.kind === 'inline') return record;
    const extents: Extent[] = [];
    for (const { chunk, chunkOffsetBytes, fileOffsetBytes, lengthBytes } of record.pieces) {
      const dataOffsetBytes = offsets[chunk]! + chunkOffsetBytes;
      const last = extents.at(-1);
      const gap = last === undefined ? -1 : fileOffsetBytes - last.fileOffsetBytes;
      if (last?.lengthBytes === gap && last.dataOffsetBytes + gap === dataOffsetBytes) {
        last.lengthBytes += lengthBytes;
      } else {
        extents.push({ fileOffsetBytes, lengthBytes, dataOffsetBytes });
      }
    }
    return { kind: 'extents', extents };
  }

  #recordOf(content: FileContent): ContentRecord {
    const record = this.#records.get(content.ordinal);
    assert(record !== undefined, `content ${content.ordinal} was delivered`);
    return record;
  }
}
