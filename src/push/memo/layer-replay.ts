/**
 * The contents of a layer as a ContentWriter would have placed them, from a memo: every chunk by its
 * key, no byte read. Nothing is changed before all of it is known to come out the same.
 *
 * A chunk counts if the uploader knows it, that is, if it need not be stored. Large files stand for
 * themselves. Packs depend on which files are in them: they are cut anew, by the files' sizes and
 * digests. One that comes out as it was is that chunk; some others are made again from what is stored.
 */

import { assert } from '../../base/assert.ts';
import { packedFileSizeMaxBytes, sparseFillMaxBytes } from '../../base/limits.ts';
import { PackEnds } from '../../chunk/file-packer.ts';
import type { LayerMemo } from '../../oci/layer/layer-memo.ts';
import type { TarEntry } from '../../oci/layer/tar-reader.ts';
import type { FileContent } from '../../tree/tree.ts';
import type { ChunkTicket, ChunkUploader } from '../chunk-uploader.ts';
import { type ContentWriter, storedBytes } from '../content-writer.ts';
import type { ContentRecord, DataRegion, Piece } from '../data-region.ts';
import type { MemoContent, MemoReader } from './memo-reader.ts';
import { alignedSize, type PackMaker, type PackPart } from './pack-maker.ts';

type Small = Extract<MemoContent, { kind: 'small' }>;
type Large = Extract<MemoContent, { kind: 'large' }>;

interface PackFile {
  pieces: Piece[];
  content: Small;
  sizeBytes: number;
}

/** Beyond this it is as well to read the layer. */
const packsMadeMax = 64;
/** For one that is made; it takes two or three as a rule. */
const packsReadMax = 8;

export interface ReplayTarget {
  writer: ContentWriter;
  /** That the writer writes to. */
  region: Pick<DataRegion, 'chunkCount'>;
  uploader: Pick<ChunkUploader, 'recall' | 'add' | 'backlog'>;
  maker: PackMaker;
}

export class LayerReplay implements LayerMemo {
  readonly #memo: MemoReader;
  readonly #target: ReplayTarget;
  /** False once it cannot come out the same. */
  #isPossible = true;
  readonly #firstChunk: number;
  /** Undefined for one that is to be made. */
  readonly #chunks: (ChunkTicket | undefined)[] = [];
  readonly #toMake: { at: number; files: PackFile[] }[] = [];
  readonly #contents: { content: FileContent; record: ContentRecord }[] = [];
  readonly #records = new Map<string, ContentRecord>();
  readonly #ends = new PackEnds();
  #files: PackFile[] = [];
  #fillBytes: number;

  constructor(memo: MemoReader, target: ReplayTarget) {
    this.#memo = memo;
    this.#target = target;
    this.#firstChunk = target.region.chunkCount;
    this.#fillBytes = target.writer.fillBytes;
  }

  /** For who reads the layer all the same. */
  memoFromStart(): MemoReader {
    return this.#memo.fromStart();
  }

  next(): TarEntry | undefined {
    return this.#memo.next();
  }

  want(content: FileContent): void {
    if (!this.#isPossible) return;
    const known = this.#memo.content;
    const record = this.#recordOf(known, content);
    // Whether the limit would be passed on the way, nobody knows: then the layer is read.
    if (record === undefined || this.#fillBytes > sparseFillMaxBytes) this.#isPossible = false;
    else this.#contents.push({ content, record });
    this.#fillBytes -= storedBytes(content);
  }

  async deliver(): Promise<boolean> {
    const { writer, region } = this.#target;
    this.#endPack();
    if (!this.#isPossible || this.#toMake.length > packsMadeMax) return false;
    assert(region.chunkCount === this.#firstChunk, 'nothing is written meanwhile');
    for (const { at, files } of this.#toMake) {
      this.#chunks[at] = await this.#make(files);
      if (this.#chunks[at] === undefined) return false;
    }
    const chunks = this.#chunks as ChunkTicket[];
    writer.adopt({ chunks, contents: this.#contents, records: this.#records });
    return true;
  }

  #recordOf(known: MemoContent, { sizeBytes }: FileContent): ContentRecord | undefined {
    switch (known.kind) {
      case 'none':
        return undefined;
      case 'inline':
        return { kind: 'inline', bytes: Buffer.from(known.bytes) };
      case 'small':
        return sizeBytes < packedFileSizeMaxBytes ? this.#small(known, sizeBytes) : undefined;
      case 'large':
        return this.#large(known);
    }
  }

  #small(content: Small, sizeBytes: number): ContentRecord {
    const name = content.digest.toString('latin1');
    const known = this.#known(name);
    if (known !== undefined) return known;
    const pieces: Piece[] = [];
    const { endsBefore, endsAfter } = this.#ends.add(sizeBytes, content.digest);
    if (endsBefore) this.#endPack();
    this.#files.push({ pieces, content, sizeBytes });
    if (endsAfter) this.#endPack();
    const record: ContentRecord = { kind: 'pieces', pieces };
    this.#records.set(name, record);
    return record;
  }

  #large({ identity, pieces: known }: Large): ContentRecord | undefined {
    const pieces: Piece[] = [];
    for (const { key, plainSizeBytes, fileOffsetBytes, lengthBytes } of known) {
      const ticket = this.#target.uploader.recall(key);
      if (ticket?.plainSizeBytes !== plainSizeBytes) return undefined;
      const chunk = this.#append(ticket, plainSizeBytes);
      pieces.push({ chunk, chunkOffsetBytes: 0, fileOffsetBytes, lengthBytes });
    }
    const name = identity.toString('hex');
    const record = this.#known(name) ?? { kind: 'pieces', pieces };
    this.#records.set(name, record);
    return record;
  }

  #known(name: string): ContentRecord | undefined {
    return this.#target.writer.recordOf(name) ?? this.#records.get(name);
  }

  /** The number that the region will give it. */
  #append(ticket: ChunkTicket | undefined, plainSizeBytes: number): number {
    this.#fillBytes += plainSizeBytes;
    return this.#firstChunk + this.#chunks.push(ticket) - 1;
  }

  #endPack(): void {
    const files = this.#files;
    if (files.length === 0 || !this.#isPossible) return;
    this.#files = [];
    const ticket = this.#samePack(files);
    const packBytes = files.reduce((sum, file) => sum + alignedSize(file.sizeBytes), 0);
    const chunk = this.#append(ticket, packBytes);
    if (ticket === undefined) this.#toMake.push({ at: this.#chunks.length - 1, files });
    let chunkOffsetBytes = 0;
    for (const { pieces, sizeBytes: lengthBytes } of files) {
      pieces.push({ chunk, chunkOffsetBytes, fileOffsetBytes: 0, lengthBytes });
      chunkOffsetBytes += alignedSize(lengthBytes);
    }
  }

  /** The chunk of a pack that holds these files and no others. */
  #samePack(files: readonly PackFile[]): ChunkTicket | undefined {
    const { place } = files[0]!.content;
    const pack = place && this.#memo.packs[place.pack];
    if (pack?.files !== files.length) return undefined;
    let offsetBytes = 0;
    for (const { content, sizeBytes } of files) {
      const at = content.place;
      if (at?.pack !== place!.pack || at.offsetBytes !== offsetBytes) return undefined;
      offsetBytes += alignedSize(sizeBytes);
    }
    const ticket = pack.plainSizeBytes === offsetBytes && this.#target.uploader.recall(pack.key);
    return ticket && ticket.plainSizeBytes === offsetBytes ? ticket : undefined;
  }

  async #make(files: readonly PackFile[]): Promise<ChunkTicket | undefined> {
    const { uploader, maker } = this.#target;
    const parts: PackPart[] = [];
    for (const { content, sizeBytes } of files) {
      const { place, digest } = content;
      const from = place && uploader.recall(this.#memo.packs[place.pack]!.key)?.stored;
      if (from === undefined) return undefined;
      parts.push({ digest, sizeBytes, from, offsetBytes: place!.offsetBytes });
    }
    if (new Set(parts.map(part => part.from)).size > packsReadMax) return undefined;
    const pack = await maker.make(parts);
    if (pack === undefined) return undefined;
    const ticket = uploader.add(pack);
    await uploader.backlog;
    return ticket;
  }
}
