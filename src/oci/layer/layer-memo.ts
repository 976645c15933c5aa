/**
 * What a reader of layers may know of one that was read before, so that it need not be read again:
 * its entries, as its tar gave them, and a sink that can take its contents without their bytes.
 * Whether there is such a memory changes nothing about the tree, nor about what the sink holds.
 */

import type { FileContent } from '../../tree/tree.ts';
import type { SourceLayer } from '../source-image.ts';
import type { TarEntry } from './tar-reader.ts';

export interface LayerMemos {
  /** Whether `open` will most likely find something: then the layer is not fetched ahead of time. */
  has(layer: SourceLayer): Promise<boolean>;
  open(layer: SourceLayer): Promise<LayerMemo | undefined>;
  /** The layer is read now; `memo` is what was opened of it, if anything. */
  begin(layer: SourceLayer, memo: LayerMemo | undefined): LayerNotes;
}

export interface LayerMemo {
  /**
   * The next entry, a new object; undefined after the last. It is to be checked as any tar's entry.
   * Throws BadMemo.
   */
  next(): TarEntry | undefined;
  /** The sink is to get the content of the file that `next` gave last. */
  want(content: FileContent): void;
  /**
   * After the last entry. True: the sink has all that was wanted, as if the layer had been read. False:
   * it has none of it, and the layer has to be read.
   */
  deliver(): Promise<boolean>;
}

/** Of one layer while it is read. */
export interface LayerNotes {
  /** Each entry, before its content goes to the sink. */
  entry(entry: TarEntry): void;
  /** The layer is over, and its digests were right. */
  save(): Promise<void>;
}

/** A memo that cannot be used: the layer has to be read. */
export class BadMemo extends Error {
  constructor(state: string) {
    super(state);
    this.name = 'BadMemo';
  }
}
