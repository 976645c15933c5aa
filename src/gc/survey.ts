/** What each root of a store holds, and what of it no name needs. Nothing is changed. */

import { ImgstoreError } from '../base/errors.ts';
import type { RootId } from '../store/format.ts';
import { heldSince, type Lease, listLeases } from '../store/lease.ts';
import type { Root, RootState, Roots, RootsView } from '../store/roots.ts';
import { walkChunks } from './chunk-walk.ts';
import { findRecipes, recipeProblems } from './live-recipes.ts';
import { lookAtNames } from './named-recipes.ts';
import type { GcProblem } from './problem.ts';
import { add, noUsage, type Usage } from './usage.ts';

export interface RootUse {
  id: RootId;
  state: RootState;
  since: Date;
  /** When it was read from although it is expired. */
  alarmed: Date | undefined;
  /** Since when the oldest push runs that writes to it. */
  heldSince: Date | undefined;
  holds: Usage;
  /** Of this, what no name needs. */
  garbage: Usage;
  /** What no name needs yet: put since the oldest of the pushes began that still run. */
  awaited: Usage;
}

export interface Survey {
  /** The newest first: the active one, then the others. */
  roots: readonly [RootUse, ...RootUse[]];
  /** Their deletion has begun. */
  deleted: readonly RootId[];
  names: number;
  /** What names need, each object once. */
  live: Usage;
  /** Of this, what the active root lacks and another has. */
  elsewhere: Usage;
  problems: readonly GcProblem[];
}

export interface SurveyOptions {
  /** Which leases are fresh: by the store's clock where it matters. */
  now: Date;
  liveChunksMax?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** Other collections may change the roots meanwhile; that often at once, they do the work. */
const attemptsMax = 5;

/**
 * Errors: those of Roots.view, UNAVAILABLE of the store, BUSY if other collections keep changing
 * the roots, and the signal's reason.
 */
export async function survey(roots: Roots, options: SurveyOptions): Promise<Survey> {
  for (let attempt = 1; attempt <= attemptsMax; attempt++) {
    const view = await roots.refresh();
    const found = await surveyOf(roots, view, options);
    // Of a root that was deleted meanwhile, this and that is missing.
    if (isSame(view, await roots.refresh())) return found;
  }
  throw new ImgstoreError(
    'BUSY',
    `Cannot tell what the roots of ${roots.store.location} hold: they change all the time`,
    { hint: 'Other collections are running; run it again when they are done.' },
  );
}

async function surveyOf(
  roots: Roots,
  view: RootsView,
  { now, liveChunksMax, signal }: SurveyOptions,
): Promise<Survey> {
  // Before the names: a push that is done by then is seen in what its name means.
  const leases = await listLeases(roots.store, signal);
  const named = await lookAtNames(roots, signal);
  const uses = new Map(view.roots.map(root => [root, useOf(root, leases, now)]));
  const active = view.roots[0];
  const recipes = await findRecipes(view.roots, named, {
    onListed: ({ root, sizeBytes, modified, isLive }) =>
      count(uses.get(root)!, 'recipe', { sizeBytes, modified, isLive }),
    signal,
  });
  const [live, elsewhere] = [noUsage(), noUsage()];
  const lost = await walkChunks({
    roots: view.roots,
    recipes,
    visit: async ({ root, sizeBytes, modified, isLive, isFirst }) => {
      count(uses.get(root)!, 'chunk', { sizeBytes, modified, isLive });
      if (isFirst) add(live, 'chunk', sizeBytes);
      if (isFirst && root !== active) add(elsewhere, 'chunk', sizeBytes);
      return true;
    },
    liveChunksMax,
    signal,
  });
  for (const { places, sizeBytes } of recipes) {
    if (places.length > 0) add(live, 'recipe', sizeBytes);
    if (places.length > 0 && places[0] !== active) add(elsewhere, 'recipe', sizeBytes);
  }
  const [first, ...others] = uses.values();
  return {
    roots: [first!, ...others],
    deleted: view.deleted,
    names: named.nameCount,
    live,
    elsewhere,
    problems: [...named.problems, ...recipeProblems(recipes), ...lost],
  };
}

function useOf({ id, state, since, alarmed }: Root, leases: readonly Lease[], now: Date): RootUse {
  const held = heldSince(id, leases, now);
  return {
    id,
    state,
    since,
    alarmed,
    heldSince: held,
    holds: noUsage(),
    garbage: noUsage(),
    awaited: noUsage(),
  };
}

function count(
  use: RootUse,
  kind: 'chunk' | 'recipe',
  { sizeBytes, modified, isLive }: { sizeBytes: number; modified: Date; isLive: boolean },
): void {
  add(use.holds, kind, sizeBytes);
  const isAwaited = use.heldSince !== undefined && modified >= use.heldSince;
  if (!isLive) add(isAwaited ? use.awaited : use.garbage, kind, sizeBytes);
}

function isSame(before: RootsView, after: RootsView): boolean {
  const text = ({ roots, deleted }: RootsView) =>
    [...roots.map(({ id, state }) => `${id} ${state}`), ...deleted].join();
  return text(before) === text(after);
}
