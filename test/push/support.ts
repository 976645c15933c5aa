/** Contents on their way into a data region, without sealing, and what comes to lie there. */

import assert from 'node:assert/strict';
import { sha256 } from '../../src/base/digest.ts';
import type { ChunkSink, ChunkTicket } from '../../src/push/chunk-uploader.ts';
import { ContentWriter } from '../../src/push/content-writer.ts';
import { type DataLayout, DataRegion } from '../../src/push/data-region.ts';
import type { DataRun, FileContent } from '../../src/tree/tree.ts';
import type { Random } from '../support/random.ts';

/** Keeps plain chunks; a chunk's key is its SHA-256. */
export class KeepingSink implements ChunkSink {
  readonly plain = new Map<ChunkTicket, Buffer>();
  readonly #tickets = new Map<string, ChunkTicket>();
  readonly backlog = undefined;

  add(plain: Buffer): ChunkTicket {
    const key = sha256(plain);
    const name = key.toString('hex');
    const ticket = this.#tickets.get(name) ?? {
      key,
      plainSizeBytes: plain.length,
      stored: undefined,
    };
    this.#tickets.set(name, ticket);
    this.plain.set(ticket, Buffer.from(plain));
    return ticket;
  }

  /** The chunks of a layout, one after the other. */
  bytesOf({ chunks }: DataLayout): Buffer {
    return Buffer.concat(chunks.map(ticket => this.plain.get(ticket)!));
  }
}

export interface TestContent extends FileContent {
  /** All bytes of the file. */
  file: Buffer;
}

/** One data region being written, and what is needed to look into it. */
export class Writing {
  readonly sink = new KeepingSink();
  readonly region = new DataRegion();
  readonly writer = new ContentWriter(this.region, this.sink);
  #contents = 0;

  /** Writes a file in pieces of random sizes if there is a `random`, else at once. */
  add(file: Buffer, options: { runs?: readonly DataRun[]; random?: Random } = {}): TestContent {
    const { runs, random } = options;
    const content = { ordinal: this.#contents++, sizeBytes: file.length, runs, file };
    this.writer.begin(content);
    for (const part of split(stored(file, runs), random)) {
      this.writer.write(part);
      part.fill(0xdd); // the buffer is the source's again
    }
    this.writer.end();
    return content;
  }

  /** Ends the layer, lays out the contents, and fails unless each is found where it was placed. */
  layout(contents: readonly TestContent[]): DataLayout {
    this.writer.layerEnd();
    const layout = this.region.layout(contents);
    const data = this.sink.bytesOf(layout);
    assert.equal(layout.sizeBytes, data.length);
    for (const content of contents) {
      const bytes = placedBytes(content, layout, data);
      assert.ok(bytes.equals(content.file), `content ${content.ordinal} is where it was placed`);
    }
    return layout;
  }

  chunkCount(content: TestContent): number {
    return this.region.layout([content]).chunks.length;
  }
}

function placedBytes(content: TestContent, layout: DataLayout, data: Buffer): Buffer {
  const placement = layout.placementOf(content);
  if (placement.kind === 'inline') return Buffer.from(placement.bytes);
  const file = Buffer.alloc(content.sizeBytes);
  let endBytes = 0;
  for (const { fileOffsetBytes, lengthBytes, dataOffsetBytes } of placement.extents) {
    assert.ok(lengthBytes > 0 && fileOffsetBytes >= endBytes, 'extents are in order');
    endBytes = fileOffsetBytes + lengthBytes;
    assert.ok(endBytes <= file.length && dataOffsetBytes + lengthBytes <= data.length);
    data.copy(file, fileOffsetBytes, dataOffsetBytes, dataOffsetBytes + lengthBytes);
  }
  return file;
}

/** The bytes of the runs, one after the other: what a source delivers. */
export function stored(file: Buffer, runs: readonly DataRun[] | undefined): Buffer {
  if (runs === undefined) return Buffer.from(file);
  return Buffer.concat(
    runs.map(run => file.subarray(run.offsetBytes, run.offsetBytes + run.lengthBytes)),
  );
}

/** Copies of the parts. */
export function split(bytes: Buffer, random: Random | undefined): Buffer[] {
  if (random === undefined) return bytes.length === 0 ? [] : [Buffer.from(bytes)];
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const size = random.pick([1, 511, 4096, 65_536, 65_537, 300_000, 2_000_000]);
    const end = Math.min(bytes.length, at + random.between(1, size));
    parts.push(Buffer.from(bytes.subarray(at, end)));
    at = end;
  }
  return parts;
}
