/**
 * One line in the log for each chunk that could not be had, with the files that it holds parts of:
 * an operator sees what is affected. The same chunk is reported once a minute at most, since a
 * program may read it in a loop.
 */

import { describeError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { ChunkReader } from '../image/chunk-reader.ts';
import type { FailedRange } from '../image/lazy-disk.ts';
import { filesAt } from '../image/locate.ts';
import type { Recipe } from '../recipe/recipe.ts';

const repeatMs = 60_000;
const rememberedMax = 1000;
const filesShownMax = 3;

export class FailureLog {
  readonly #image: string;
  readonly #recipe: Recipe;
  readonly #reader: ChunkReader;
  readonly #log: Log;
  readonly #reported = new Map<string, number>();
  /** The latest, reported or not. */
  last: FailedRange | undefined;

  constructor(image: string, recipe: Recipe, reader: ChunkReader, log: Log) {
    this.#image = image;
    this.#recipe = recipe;
    this.#reader = reader;
    this.#log = log;
  }

  report(failed: FailedRange): void {
    this.last = failed;
    const now = performance.now();
    const last = this.#reported.get(failed.chunkId);
    if (last !== undefined && now - last < repeatMs) return;
    if (this.#reported.size >= rememberedMax) this.#reported.clear();
    this.#reported.set(failed.chunkId, now);
    this.#describe(failed).then(
      files => this.#log('error', `${this.#image}: ${describeError(failed.error)} (${files})`),
      () => this.#log('error', `${this.#image}: ${describeError(failed.error)}`),
    );
  }

  async #describe({ offsetBytes, lengthBytes, chunkId }: FailedRange): Promise<string> {
    const range = `chunk ${chunkId}, bytes ${offsetBytes} to ${offsetBytes + lengthBytes} of the disk`;
    if (offsetBytes < this.#recipe.metadataSizeBytes) return `${range}: names and attributes`;
    if (this.#recipe.details.kind === 'disk') return range;
    const [files = []] = await filesAt(this.#recipe, this.#reader, [{ offsetBytes, lengthBytes }]);
    const more = files.length > filesShownMax ? ` and ${files.length - filesShownMax} more` : '';
    return `${range}: ${files.slice(0, filesShownMax).join(', ')}${more}`;
  }
}
