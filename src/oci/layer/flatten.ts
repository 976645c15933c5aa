/**
 * An image's layers → its tree, with file contents streamed to a sink on the way.
 *
 * Layers are read once, from the top down, so that it is known of nearly every file whether a layer
 * above hides it when its bytes come by: those that are not hidden go to the sink at once, nothing
 * is stored in between. Headers are kept, and make the tree by the exact rules once the bottom layer
 * was read. Contents that were wrongly held back (a hard link from above to a file that was deleted,
 * a parent that turned out to be a symlink) are fetched by reading the layers that hold them again.
 *
 * The sink gets every content of the tree exactly once, and possibly some that the tree does not
 * need. What it gets, and in which order, depends on the image alone. A layer that is remembered from
 * an earlier time is not read: its entries and the sink's contents come from what was noted then.
 */

import { setImmediate } from 'node:timers/promises';
import { ImgstoreError } from '../../base/errors.ts';
import { MiB } from '../../base/limits.ts';
import type { ContentSink, FileContent, Tree } from '../../tree/tree.ts';
import { regularFiles } from '../../tree/walk.ts';
import type { SourceImage } from '../source-image.ts';
import { Budget } from './budget.ts';
import { Claims } from './claims.ts';
import { located, shownPath } from './fault.ts';
import { BadMemo, type LayerMemo, type LayerMemos, type LayerNotes } from './layer-memo.ts';
import { type LayerRecord, RecordMaker } from './layer-record.ts';
import { type TarEntry, TarReader } from './tar-reader.ts';
import { TreeBuilder } from './tree-builder.ts';
import { Warnings } from './warnings.ts';

export interface FlattenProgress {
  /** Layers read or remembered so far, the current one included. */
  layer: number;
  layers: number;
  /** Uncompressed bytes read so far, of all layers. */
  tarBytes: number;
}

export interface FlattenOptions {
  signal?: AbortSignal;
  onProgress?: (progress: FlattenProgress) => void;
  /** One line, about an entry that the tree cannot hold as it is. */
  onWarning?: (message: string) => void;
  /** Of the same sink. */
  memos?: LayerMemos | undefined;
}

const progressStepBytes = 8 * MiB;
/** Records applied before other work gets a turn: a few milliseconds. */
const recordsPerTurn = 10_000;

/**
 * Throws ImgstoreError with the layer's digest and the path if a layer is malformed, beyond a limit
 * or of a kind that is not supported; errors of the source and of the sink come through.
 */
export function flattenImage(
  image: SourceImage,
  sink: ContentSink,
  options: FlattenOptions = {},
): Promise<Tree> {
  return new Flattener(image, sink, options).run();
}

class Flattener {
  readonly #image: SourceImage;
  readonly #sink: ContentSink;
  readonly #options: FlattenOptions;
  readonly #warnings: Warnings;
  readonly #budget = new Budget();
  readonly #maker: RecordMaker;
  /** By layer, bottom first. */
  readonly #records: LayerRecord[][] = [];
  readonly #firstOrdinals: number[] = [];
  #nextOrdinal = 0;
  /** Contents that were held back, by their layer. */
  readonly #heldBack = new Map<FileContent, number>();
  /** Layers that are not remembered, top first. */
  #unknown: number[] | undefined;
  #layersRead = 0;
  #tarBytes = 0;
  #reportedBytes = 0;

  constructor(image: SourceImage, sink: ContentSink, options: FlattenOptions) {
    this.#image = image;
    this.#sink = sink;
    this.#options = options;
    this.#warnings = new Warnings(options.onWarning ?? (() => {}));
    this.#maker = new RecordMaker(this.#budget, (kind, message) =>
      this.#warnings.add(kind, message),
    );
  }

  async run(): Promise<Tree> {
    await this.#readLayers();
    const builder = new TreeBuilder(this.#budget);
    for (let layer = 0; layer < this.#image.layers.length; layer++)
      await this.#applyLayer(builder, layer);
    await this.#fetchHeldBack(builder.tree);
    this.#warnings.finish();
    return builder.tree;
  }

  async #readLayers(): Promise<void> {
    const claims = new Claims(this.#budget);
    await this.#findUnknown();
    for (let layer = this.#image.layers.length - 1; layer >= 0; layer--) {
      await this.#readLayer(layer, claims);
      if (layer > 0) await this.#eachRecord(layer, record => claims.add(record));
      this.#report();
    }
  }

  async #findUnknown(): Promise<void> {
    const { memos } = this.#options;
    if (memos === undefined) return;
    this.#unknown = [];
    for (let layer = this.#image.layers.length - 1; layer >= 0; layer--)
      if (!(await memos.has(this.#image.layers[layer]!))) this.#unknown.push(layer);
  }

  async #readLayer(layer: number, claims: Claims): Promise<void> {
    const source = this.#image.layers[layer]!;
    const { memos } = this.#options;
    this.#layersRead++;
    this.#firstOrdinals[layer] = this.#nextOrdinal;
    const memo = await memos?.open(source);
    const remembered = memo && (await this.#recallLayer(layer, memo, claims));
    if (remembered !== undefined && (await memo!.deliver())) return;

    const notes = memos?.begin(source, memo);
    if (remembered === undefined) await this.#readFresh(layer, claims, notes);
    else await this.#readContents(layer, byOrdinal(remembered), notes);
    await notes?.save();
  }

  async #readFresh(layer: number, claims: Claims, notes: LayerNotes | undefined): Promise<void> {
    const records: LayerRecord[] = [];
    await this.#streamLayer(layer, (entry, ordinal) => {
      notes?.entry(entry);
      return this.#take(entry, { ordinal, layer, records, claims });
    });
    this.#records[layer] = records;
  }

  /**
   * Keeps what the entry means; gives its content if the sink is to get it. Throws EntryFault.
   */
  #take(
    entry: TarEntry,
    to: { ordinal: number; layer: number; records: LayerRecord[]; claims: Claims },
  ): FileContent | undefined {
    const record = this.#maker.make(entry, to.ordinal);
    if (record === undefined) return undefined;
    to.records.push(record);
    if (record.kind !== 'inode' || record.inode.kind !== 'file') return undefined;
    const { content } = record.inode;
    if (!to.claims.hides(record.path)) return content;
    this.#heldBack.set(content, to.layer);
    return undefined;
  }

  /** The contents that the sink is to get; undefined if the memo is of no use. */
  async #recallLayer(
    layer: number,
    memo: LayerMemo,
    claims: Claims,
  ): Promise<FileContent[] | undefined> {
    const budget = this.#budget.copy();
    try {
      return await this.#recall(layer, memo, claims);
    } catch (error) {
      if (!(error instanceof BadMemo)) throw error;
      this.#budget.restore(budget);
      return undefined;
    }
  }

  async #recall(layer: number, memo: LayerMemo, claims: Claims): Promise<FileContent[]> {
    const records: LayerRecord[] = [];
    const contents: FileContent[] = [];
    let ordinal = this.#firstOrdinals[layer]!;
    let turn = 0;
    for (let entry = memo.next(); entry !== undefined; entry = memo.next()) {
      const content = this.#placed(layer, entry, () =>
        this.#take(entry!, { ordinal, layer, records, claims }),
      );
      if (entry.type === 'file') ordinal++;
      if (content !== undefined) {
        memo.want(content);
        contents.push(content);
      }
      if (++turn % recordsPerTurn === 0) await this.#turn();
    }
    this.#records[layer] = records;
    this.#nextOrdinal = ordinal;
    return contents;
  }

  /** `choose` says of each entry, files numbered, what content of it the sink gets. */
  async #streamLayer(
    layer: number,
    choose: (entry: TarEntry, ordinal: number) => FileContent | undefined,
  ): Promise<void> {
    const { signal } = this.#options;
    const reader = new TarReader(this.#whatReading(layer));
    let ordinal = this.#firstOrdinals[layer]!;
    let chosen: FileContent | undefined;
    const onEntry = (): Promise<unknown> | undefined => {
      const { entry } = reader;
      chosen = this.#placed(layer, entry, () => choose(entry, ordinal));
      if (entry.type === 'file') ordinal++;
      return chosen && this.#sink.begin(chosen);
    };
    const ahead = this.#unknown?.filter(other => other < layer);
    for await (const buffer of this.#image.openLayer(layer, {
      ...(signal && { signal }),
      ...(ahead && { ahead }),
    })) {
      signal?.throwIfAborted();
      this.#count(buffer.length);
      reader.feed(buffer);
      for (let event = reader.next(); event !== 'starved'; event = reader.next()) {
        let wait: Promise<unknown> | undefined;
        if (event === 'entry') wait = onEntry();
        else if (chosen !== undefined)
          wait = event === 'data' ? this.#sink.write(reader.data) : this.#sink.end();
        if (wait !== undefined) await wait;
      }
    }
    reader.close();
    this.#nextOrdinal = Math.max(this.#nextOrdinal, ordinal);
    await this.#sink.layerEnd?.();
  }

  #whatReading(layer: number): string {
    return `Cannot read layer ${this.#image.layers[layer]!.digest}`;
  }

  /** Faults get the layer and the entry that they are of. */
  #placed<V>(layer: number, entry: TarEntry, work: () => V): V {
    try {
      return work();
    } catch (error) {
      throw located(`${this.#whatReading(layer)}: entry ${shownPath(entry.path)}`, error);
    }
  }

  async #applyLayer(builder: TreeBuilder, layer: number): Promise<void> {
    await this.#eachRecord(layer, record => builder.apply(record));
    this.#records[layer] = builder.takeWaitingLinks();
    await this.#eachRecord(layer, record => {
      if (record.kind === 'hard-link') builder.applyWaitingLink(record);
    });
    this.#records[layer] = [];
    builder.endLayer();
  }

  async #eachRecord(layer: number, visit: (record: LayerRecord) => void): Promise<void> {
    const what = `Cannot apply layer ${this.#image.layers[layer]!.digest}`;
    let turn = 0;
    for (const record of this.#records[layer]!) {
      try {
        visit(record);
      } catch (error) {
        throw located(`${what}: entry ${shownPath(record.path)}`, error);
      }
      if (++turn % recordsPerTurn === 0) await this.#turn();
    }
  }

  async #turn(): Promise<void> {
    this.#options.signal?.throwIfAborted();
    await setImmediate();
  }

  async #fetchHeldBack(tree: Tree): Promise<void> {
    if (this.#heldBack.size === 0) return;
    const neededByLayer = new Map<number, Map<number, FileContent>>();
    for (const { content } of regularFiles(tree)) {
      const layer = this.#heldBack.get(content);
      if (layer === undefined) continue;
      const needed = neededByLayer.get(layer) ?? new Map<number, FileContent>();
      neededByLayer.set(layer, needed.set(content.ordinal, content));
    }
    for (let layer = this.#image.layers.length - 1; layer >= 0; layer--) {
      const needed = neededByLayer.get(layer);
      if (needed !== undefined) await this.#readContents(layer, needed);
    }
  }

  /** Reads a layer whose records are known for some of its contents, by ordinal. */
  async #readContents(
    layer: number,
    needed: Map<number, FileContent>,
    notes?: LayerNotes,
  ): Promise<void> {
    await this.#streamLayer(layer, (entry, ordinal) => {
      notes?.entry(entry);
      const content = entry.type === 'file' ? needed.get(ordinal) : undefined;
      if (content === undefined) return undefined;
      needed.delete(ordinal);
      if (content.sizeBytes !== entry.sizeBytes) throw this.#changed(layer);
      return content;
    });
    if (needed.size > 0) throw this.#changed(layer);
  }

  #changed(layer: number): ImgstoreError {
    const { digest } = this.#image.layers[layer]!;
    return new ImgstoreError('CORRUPT', `Cannot read layer ${digest} again: it has changed`, {
      hint: 'Leave the image alone while it is pushed.',
    });
  }

  #count(bytes: number): void {
    this.#tarBytes += bytes;
    if (this.#tarBytes - this.#reportedBytes >= progressStepBytes) this.#report();
  }

  #report(): void {
    this.#reportedBytes = this.#tarBytes;
    this.#options.onProgress?.({
      layer: this.#layersRead,
      layers: this.#image.layers.length,
      tarBytes: this.#tarBytes,
    });
  }
}

function byOrdinal(contents: readonly FileContent[]): Map<number, FileContent> {
  return new Map(contents.map(content => [content.ordinal, content]));
}
