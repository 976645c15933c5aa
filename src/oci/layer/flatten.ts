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
 * need. What it gets, and in which order, depends on the image alone.
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
import { type LayerRecord, RecordMaker } from './layer-record.ts';
import { type TarEntry, TarReader } from './tar-reader.ts';
import { TreeBuilder } from './tree-builder.ts';
import { Warnings } from './warnings.ts';

export interface FlattenProgress {
  /** Layers read so far, the current one included. */
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
    for (let layer = this.#image.layers.length - 1; layer >= 0; layer--) {
      await this.#readLayer(layer, claims);
      if (layer > 0) await this.#eachRecord(layer, record => claims.add(record));
      this.#report();
    }
  }

  async #readLayer(layer: number, claims: Claims): Promise<void> {
    const records: LayerRecord[] = [];
    this.#layersRead++;
    this.#firstOrdinals[layer] = this.#nextOrdinal;
    await this.#streamLayer(layer, (entry, ordinal) => {
      const record = this.#maker.make(entry, ordinal);
      if (record === undefined) return undefined;
      records.push(record);
      if (record.kind !== 'inode' || record.inode.kind !== 'file') return undefined;
      const { content } = record.inode;
      if (!claims.hides(record.path)) return content;
      this.#heldBack.set(content, layer);
      return undefined;
    });
    this.#records[layer] = records;
  }

  /** `choose` says of each entry, files numbered, what content of it the sink gets. */
  async #streamLayer(
    layer: number,
    choose: (entry: TarEntry, ordinal: number) => FileContent | undefined,
  ): Promise<void> {
    const { signal } = this.#options;
    const what = `Cannot read layer ${this.#image.layers[layer]!.digest}`;
    const reader = new TarReader(what);
    let ordinal = this.#firstOrdinals[layer]!;
    let chosen: FileContent | undefined;
    const onEntry = (): Promise<unknown> | undefined => {
      const { entry } = reader;
      try {
        chosen = choose(entry, ordinal);
      } catch (error) {
        throw located(`${what}: entry ${shownPath(entry.path)}`, error);
      }
      if (entry.type === 'file') ordinal++;
      return chosen && this.#sink.begin(chosen);
    };
    for await (const buffer of this.#image.openLayer(
      layer,
      signal === undefined ? {} : { signal },
    )) {
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
      if (++turn % recordsPerTurn !== 0) continue;
      this.#options.signal?.throwIfAborted();
      await setImmediate();
    }
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
      if (needed !== undefined) await this.#readAgain(layer, needed);
    }
  }

  async #readAgain(layer: number, needed: Map<number, FileContent>): Promise<void> {
    await this.#streamLayer(layer, (entry, ordinal) => {
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
