/**
 * One line in the log for each chunk that could not be had, with the files that it holds parts of:
 * an operator sees what is affected. The same chunk is reported once a minute at most, since a
 * program may read it in a loop; one walk at a time looks for the files, however much is lost.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { describeError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { ChunkReader } from '../image/chunk-reader.ts';
import type { FailedRange } from '../image/lazy-disk.ts';
import { filesAt } from '../image/locate.ts';
import type { Recipe } from '../recipe/recipe.ts';

const repeatMs = 60_000;
/** Chunks that are known to have failed; the one that failed longest ago is forgotten first. */
const rememberedMax = 1000;
/** Failures that come within this time are described by one walk of the image's metadata. */
const gatherMs = 200;
const filesShownMax = 3;

export class FailureLog {
  readonly #image: string;
  readonly #recipe: Recipe;
  readonly #reader: ChunkReader;
  readonly #log: Log;
  readonly #reported = new Map<string, number>();
  #gathered: FailedRange[] = [];
  #notShown = 0;
  #writing = false;
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
    this.#remember(failed.chunkId, now);
    if (this.#gathered.length < rememberedMax) this.#gathered.push(failed);
    else this.#notShown++;
    if (this.#writing) return;
    this.#writing = true;
    void this.#write();
  }

  #remember(chunkId: string, now: number): void {
    this.#reported.delete(chunkId);
    this.#reported.set(chunkId, now);
    if (this.#reported.size <= rememberedMax) return;
    const [oldest] = this.#reported.keys();
    this.#reported.delete(oldest!);
  }

  async #write(): Promise<void> {
    while (this.#gathered.length > 0) {
      await sleep(gatherMs, undefined, { ref: false });
      const failures = this.#gathered;
      this.#gathered = [];
      const files = await this.#filesOf(failures);
      failures.forEach((failed, index) => {
        const where = this.#describe(failed, files?.[index]);
        this.#log('error', `${this.#image}: ${describeError(failed.error)} (${where})`);
      });
      if (this.#notShown > 0) {
        this.#log('error', `${this.#image}: ${this.#notShown} more chunks cannot be had`);
        this.#notShown = 0;
      }
    }
    this.#writing = false;
  }

  /** Undefined if that cannot be told: there are none in a raw disk, or their names are lost too. */
  async #filesOf(failures: readonly FailedRange[]): Promise<string[][] | undefined> {
    if (this.#recipe.details.kind === 'disk') return undefined;
    try {
      return await filesAt(this.#recipe, this.#reader, failures);
    } catch {
      return undefined;
    }
  }

  #describe({ offsetBytes, lengthBytes, chunkId }: FailedRange, files: string[] = []): string {
    const range = `chunk ${chunkId}, bytes ${offsetBytes} to ${offsetBytes + lengthBytes} of the disk`;
    if (offsetBytes < this.#recipe.metadataSizeBytes) return `${range}: names and attributes`;
    if (files.length === 0) return range;
    const more = files.length > filesShownMax ? ` and ${files.length - filesShownMax} more` : '';
    return `${range}: ${files.slice(0, filesShownMax).join(', ')}${more}`;
  }
}
