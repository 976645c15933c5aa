/** What verify says of an image, and how people read it. */

import type { RecipeId } from '../base/digest.ts';
import { describeError, type ErrorCode, ImgstoreError } from '../base/errors.ts';
import { rootSource } from '../cache/store-source.ts';
import { verified } from '../cache/verified.ts';
import type { Resolved } from '../catalog/catalog.ts';
import { type ImageFault, type ImageVerdict, verifyImage } from '../image/verify.ts';
import { WholeChunks } from '../image/whole-chunks.ts';
import { formatImageName, type ImageReference } from '../recipe/name.ts';
import type { Recipe } from '../recipe/recipe.ts';
import type { RootId } from '../store/format.ts';
import type { Root } from '../store/roots.ts';
import type { CommandContext } from './command.ts';
import { formatBytes, formatCount } from './format.ts';
import type { Opened } from './open.ts';

export interface Verdict extends ImageVerdict {
  name: string;
  /** Absent if what the name means cannot be read. */
  recipe?: RecipeId;
}

export interface Judged {
  verdict: Verdict;
  /** What was judged; absent if the recipe is lost or damaged: `cause` says how. */
  resolved?: Resolved;
  cause?: ImgstoreError;
}

const filesShownMax = 3;
/** No such name, another owner's, a store that does not answer: they say nothing of the image. */
const notDamage: ReadonlySet<ErrorCode> = new Set(['NOT_FOUND', 'KEY', 'UNAVAILABLE']);

/** Judges images of one store; a chunk that several of them share is fetched once. */
export class Judge {
  readonly #opened: Opened;
  readonly #context: Pick<CommandContext, 'progress' | 'signal'>;
  /** A chunk may be whole in one root and lost in another. */
  readonly #whole = new Map<RootId, WholeChunks>();
  readonly #startedMs = performance.now();
  #checkedChunks = 0;
  #checkedBytes = 0;

  constructor(opened: Opened, context: Pick<CommandContext, 'progress' | 'signal'>) {
    this.#opened = opened;
    this.#context = context;
  }

  /** Errors: NOT_FOUND, KEY and UNAVAILABLE, which are no verdict, and the signal's reason. */
  async image(name: ImageReference): Promise<Judged> {
    const text = formatImageName(name);
    try {
      const { resolved, verdict } = await this.#resolved(name);
      return { verdict: { name: text, recipe: resolved.recipeId, ...verdict }, resolved };
    } catch (error) {
      this.#context.signal.throwIfAborted();
      if (!(error instanceof ImgstoreError) || notDamage.has(error.code)) throw error;
      const faults = [{ problem: describeError(error), files: [] }];
      const nothing = { chunks: 0, storedBytes: 0, checkedChunks: 0, checkedBytes: 0 };
      return { verdict: { name: text, ...nothing, faults }, cause: error };
    }
  }

  /** A recipe's chunks in the one root where all of them have to be. */
  async recipe(recipe: Recipe, root: Root): Promise<ImageVerdict> {
    const { progress, signal } = this.#context;
    const whole = this.#whole.get(root.id) ?? new WholeChunks();
    this.#whole.set(root.id, whole);
    const verdict = await verifyImage(recipe, verified(rootSource(this.#opened.roots, root)), {
      whole,
      signal,
      onProgress: (doneBytes, totalBytes) => progress.advance(doneBytes, totalBytes),
    });
    this.#checkedChunks += verdict.checkedChunks;
    this.#checkedBytes += verdict.checkedBytes;
    return verdict;
  }

  /** Of all that was judged so far, and the time since this judge began. */
  get cost(): Cost {
    return {
      checkedChunks: this.#checkedChunks,
      checkedBytes: this.#checkedBytes,
      seconds: (performance.now() - this.#startedMs) / 1000,
    };
  }

  /** Again if the recipe's root was collected meanwhile: the image is in a newer one then. */
  async #resolved(name: ImageReference): Promise<{ resolved: Resolved; verdict: ImageVerdict }> {
    const { catalog, roots } = this.#opened;
    for (;;) {
      const resolved = await catalog.open(name, { signal: this.#context.signal });
      this.#context.progress.step(`Verifying ${formatImageName(name)}`);
      const isIts = ({ id }: Root) => id === resolved.root;
      const root = (await roots.view()).roots.find(isIts);
      const verdict = root && (await this.recipe(resolved.recipe, root));
      if (verdict?.faults.length === 0) return { resolved, verdict };
      const isStillThere = (await roots.refresh()).roots.some(isIts);
      if (verdict !== undefined && isStillThere) return { resolved, verdict };
    }
  }
}

export function describeVerdict({ name, chunks, storedBytes, faults }: Verdict): string[] {
  if (faults.length === 0)
    return [`${name} is whole: ${formatCount(chunks, 'chunk')}, ${formatBytes(storedBytes)}`];
  const counts = `${formatCount(chunks, 'chunk')}, ${formatCount(faults.length, 'fault')}`;
  return [`${name} is damaged (${counts})`, ...faults.map(describeFault)];
}

function describeFault({ chunk, problem, files }: ImageFault): string {
  if (chunk === undefined) return `  ${problem}`;
  const more = files.length > filesShownMax ? `, and ${files.length - filesShownMax} more` : '';
  const where = files.length > 0 ? ` (${files.slice(0, filesShownMax).join(', ')}${more})` : '';
  return `  chunk ${chunk}: ${problem}${where}`;
}

export interface Cost {
  checkedChunks: number;
  checkedBytes: number;
  seconds: number;
}

/** The last line: what all of it cost. */
export function describeCost({ checkedChunks, checkedBytes, seconds }: Cost): string {
  const what = `${formatCount(checkedChunks, 'chunk')}, ${formatBytes(checkedBytes)}`;
  const speed = `${formatBytes(checkedBytes / Math.max(seconds, 0.001))}/s`;
  return `Checked ${what}, in ${seconds.toFixed(1)} s (${speed})`;
}
