/** The memory of layers as the flattener uses it, for one push. */

import { describeError } from '../../base/errors.ts';
import type { DedupSalt } from '../../keys/keys.ts';
import {
  BadMemo,
  type LayerMemo,
  type LayerMemos,
  type LayerNotes,
} from '../../oci/layer/layer-memo.ts';
import type { SourceLayer } from '../../oci/source-image.ts';
import type { LayerMemory } from './layer-memory.ts';
import { LayerReplay, type ReplayTarget } from './layer-replay.ts';
import { MemoReader } from './memo-reader.ts';
import { MemoWriter } from './memo-writer.ts';
import type { PackMaker } from './pack-maker.ts';
import { memoKey, openMemo, sealMemo } from './sealed-memo.ts';

export interface Remembering {
  memory: LayerMemory;
  /** Use no memo, but write them. */
  rewrite: boolean;
  maker: PackMaker;
}

interface MemosOptions extends Remembering, ReplayTarget {
  salt: DedupSalt;
  onWarning: (message: string) => void;
}

export class PushMemos implements LayerMemos {
  readonly #options: MemosOptions;
  #warned = false;

  constructor(options: MemosOptions) {
    this.#options = options;
  }

  async has(layer: SourceLayer): Promise<boolean> {
    const { memory, salt, rewrite } = this.#options;
    return !rewrite && (await memory.has(memoKey(salt, layer).name));
  }

  async open(layer: SourceLayer): Promise<LayerMemo | undefined> {
    const { memory, salt, rewrite } = this.#options;
    if (rewrite) return undefined;
    const key = memoKey(salt, layer);
    const sealed = await memory.read(key.name);
    const body = sealed && openMemo(sealed, key);
    const reader = body && readerOf(body);
    return reader && new LayerReplay(reader, this.#options);
  }

  begin(layer: SourceLayer, memo: LayerMemo | undefined): LayerNotes {
    const { writer } = this.#options;
    const notes = new MemoWriter(memo instanceof LayerReplay ? memo.memoFromStart() : undefined);
    writer.journal = notes;
    return {
      entry: entry => notes.entry(entry),
      save: async () => {
        writer.journal = undefined;
        await this.#save(layer, notes.finish());
      },
    };
  }

  /** A push goes on without memory: the next one takes longer, and that is all. */
  async #save(layer: SourceLayer, body: Buffer[] | undefined): Promise<void> {
    if (body === undefined) return;
    const { memory, salt, onWarning } = this.#options;
    const key = memoKey(salt, layer);
    try {
      await memory.write(key.name, sealMemo(body, key));
    } catch (error) {
      if (!this.#warned) onWarning(describeError(error));
      this.#warned = true;
    }
  }
}

function readerOf(body: Buffer): MemoReader | undefined {
  try {
    return new MemoReader(body);
  } catch (error) {
    if (error instanceof BadMemo) return undefined;
    throw error;
  }
}
