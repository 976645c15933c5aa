/**
 * A whole store, looked at without any owner key: every object of every root that can be read, and
 * every name. It finds what time and faulty disks do to objects, needed or not. It cannot tell who
 * wrote a name record or a recipe's header: that takes their owner's key, and is for verify.
 */

import type { RecipeId } from '../base/digest.ts';
import { isObjectDamage } from '../base/errors.ts';
import { inParallel } from '../base/in-parallel.ts';
import { nameRecordSizeMaxBytes } from '../base/limits.ts';
import { formatImageName, type ImageName, nameObjectKey, nameOfObjectKey } from '../recipe/name.ts';
import { parseNameRecord } from '../recipe/name-record.ts';
import { namesPrefix, type RootId, recipeObjectKey } from '../store/format.ts';
import type { RootState, Roots } from '../store/roots.ts';
import { type ScrubFault, ScrubFindings } from './scrub-findings.ts';
import { RootScrub, type RootSurvey, type ScrubBounds } from './scrub-root.ts';

/** Each is a few hundred bytes. */
const recordBounds = { atOnce: 16, bytesMax: Infinity, bytesOf: () => 0 };

export type { ScrubFault } from './scrub-findings.ts';

export interface ScrubbedRoot extends RootSurvey {
  id: RootId;
  state: RootState;
}

export interface ScrubReport {
  roots: ScrubbedRoot[];
  names: number;
  /** Some of them: `faultCount` are all. */
  faults: ScrubFault[];
  faultCount: number;
  /** Keys of some of the objects that are none of ours; they are no fault. */
  foreign: string[];
  foreignCount: number;
}

export interface ScrubOptions {
  onRoot: (root: ScrubbedRoot) => void;
  /** Of the root that is looked at. */
  onProgress: (doneBytes: number, totalBytes: number) => void;
  bounds?: ScrubBounds;
  signal?: AbortSignal | undefined;
}

interface NamesContext {
  roots: Roots;
  findings: ScrubFindings;
  signal: AbortSignal | undefined;
}

/**
 * Roots that are collected meanwhile are left out, and so are those that are opened. Errors: those of
 * Roots.view, UNAVAILABLE of the store, and the signal's reason.
 */
export async function scrubStore(roots: Roots, options: ScrubOptions): Promise<ScrubReport> {
  const { onRoot, onProgress, bounds, signal } = options;
  const findings = new ScrubFindings();
  const context = { roots, findings, signal };
  const named = await readNames(context);
  const texts = new Map([...named].map(([id, names]) => [id, names.map(formatImageName)]));
  const scrubbed: ScrubbedRoot[] = [];
  const recipeIds = new Set<RecipeId>();
  for (const root of (await roots.refresh()).roots) {
    const scrub = new RootScrub(root, { names: texts, onProgress, bounds, signal });
    const about = { id: root.id, state: root.state, ...(await scrub.survey()) };
    onRoot(about);
    await scrub.run();
    // Of a root that is being deleted, this and that is missing; of a store that is gone, all is.
    const stillThere = (await roots.refresh()).roots.some(({ id }) => id === root.id);
    if (!stillThere) continue;
    scrubbed.push(about);
    findings.merge(scrub.findings);
    for (const id of scrub.recipeIds) recipeIds.add(id);
  }
  const lost = [...named].filter(([id]) => !recipeIds.has(id));
  if (lost.length > 0) await reportLost(lost, context);
  const { faults, faultCount, foreign, foreignCount } = findings;
  faults.sort((a, b) => (a.key < b.key ? -1 : 1));
  const names = [...named.values()].reduce((sum, { length }) => sum + length, 0);
  return { roots: scrubbed, names, faults, faultCount, foreign, foreignCount };
}

/** What names mean, by recipe. */
async function readNames(context: NamesContext): Promise<Map<RecipeId, ImageName[]>> {
  const { roots, findings, signal } = context;
  const named = new Map<RecipeId, ImageName[]>();
  await roots.view();
  const objects = roots.names.list('', signal && { signal });
  await inParallel(objects, { ...recordBounds, signal }, async ({ key }, aborting) => {
    const name = nameOfObjectKey(key);
    if (name === undefined) return findings.foreignObject(`${namesPrefix}/${key}`);
    const recipeId = await recipeOf(name, { ...context, signal: aborting });
    if (recipeId === undefined) return;
    const names = named.get(recipeId) ?? [];
    named.set(recipeId, names);
    names.push(name);
  });
  return named;
}

/** Names whose recipes were in no root, if these still are in none, and the names still mean them. */
async function reportLost(
  lost: readonly (readonly [RecipeId, readonly ImageName[]])[],
  context: NamesContext,
): Promise<void> {
  const { roots, findings, signal } = context;
  const { roots: now } = await roots.refresh();
  await inParallel(lost, { ...recordBounds, signal }, async ([id, names], aborting) => {
    for (const root of now) {
      const options = { signal: aborting };
      if ((await root.recipes.stat(recipeObjectKey(id), options)) !== undefined) return;
    }
    for (const name of names) {
      if ((await recipeOf(name, { ...context, signal: aborting })) !== id) continue;
      findings.fault(faultOf(name, 'missing', `its recipe ${id} is in no root`), [
        formatImageName(name),
      ]);
    }
  });
}

/** Undefined if the record is gone, or damaged, which is a fault then. */
async function recipeOf(name: ImageName, context: NamesContext): Promise<RecipeId | undefined> {
  const { roots, findings, signal } = context;
  const options = { sizeMaxBytes: nameRecordSizeMaxBytes, ...(signal && { signal }) };
  try {
    const bytes = await roots.names.get(nameObjectKey(name), options);
    return bytes && parseNameRecord(bytes, name).recipeId;
  } catch (error) {
    signal?.throwIfAborted();
    if (!isObjectDamage(error)) throw error;
    findings.fault(faultOf(name, 'damaged', error.message), [formatImageName(name)]);
    return undefined;
  }
}

function faultOf(name: ImageName, state: ScrubFault['state'], problem: string) {
  const key = `${namesPrefix}/${nameObjectKey(name)}`;
  return { what: 'name', state, key, root: undefined, problem } as const;
}
