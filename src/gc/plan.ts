/**
 * What a collection would do, and why. docs/format/store-layout.md has the protocol; collect.ts
 * does what the plan says, and looks again before each step that cannot be taken back.
 */

import { nextRootId, type RootId } from '../store/format.ts';
import type { Roots } from '../store/roots.ts';
import { isBlocking } from './problem.ts';
import { findRemains, type Remains } from './remains.ts';
import { storeClock } from './store-clock.ts';
import { type RootUse, type Survey, survey } from './survey.ts';
import { bytesOf, objectsOf, type Usage } from './usage.ts';

export type GcStep =
  /** Remove what a deletion that was cut off has left, or what came into a root after it. */
  | { do: 'clean'; root: RootId; objects: number; bytes: number }
  /** It was read from while it was expired: it is retired again. */
  | { do: 'revive'; root: RootId; alarmed: Date }
  /** Because of what is garbage in the active root. */
  | { do: 'open'; root: RootId; active: RootId; garbage: Usage; holds: Usage }
  /** What names need and the active root lacks. */
  | { do: 'copy'; root: RootId; usage: Usage }
  | { do: 'expire'; root: RootId; since: Date }
  | {
      do: 'delete';
      root: RootId;
      since: Date;
      objects: number;
      bytes: number;
      garbageBytes: number;
    }
  /** Leave the root as it is. */
  | ({ do: 'wait'; root: RootId } & WaitReason);

export type WaitReason =
  | { for: 'grace'; next: 'expire' | 'delete'; since: Date; until: Date }
  | { for: 'push'; since: Date }
  /** Some name cannot be told. */
  | { for: 'names' }
  /** The active root has garbage, and another root is on its way out. */
  | { for: 'root'; other: RootId; garbage: Usage };

export interface GcPlan {
  /** By the store's clock. */
  now: Date;
  graceMs: number;
  survey: Survey;
  steps: readonly GcStep[];
}

export interface PlanOptions {
  /** How long a root is retired before it expires, and expired before it is deleted. */
  graceMs: number;
  liveChunksMax?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** Changes nothing but the object whose time is the store's clock. Errors: as survey. */
export async function planCollection(roots: Roots, options: PlanOptions): Promise<GcPlan> {
  const { graceMs, liveChunksMax, signal } = options;
  await roots.view();
  const now = await storeClock(roots.store, signal);
  const found = await survey(roots, { now, liveChunksMax, signal });
  const remains = await findRemains(roots, { now, signal });
  return { now, graceMs, survey: found, steps: stepsOf(found, remains, { now, graceMs }) };
}

type Timing = Pick<GcPlan, 'now' | 'graceMs'>;

/**
 * No root is opened while another is on its way out: each is one more copy of what lives, and a
 * store that is collected every hour with a grace of a day would hold dozens.
 */
export function stepsOf(found: Survey, remains: readonly Remains[], timing: Timing): GcStep[] {
  const { problems, live, elsewhere } = found;
  const [active, ...older] = found.roots;
  const isBlocked = problems.some(isBlocking);
  const fates = older.flatMap(root => fateOf(root, isBlocked, timing));
  const lasting = fates.find(step => step.do === 'wait' && step.for !== 'names');
  const needsRoom = objectsOf(active.garbage) > 0;
  const opens = needsRoom && !isBlocked && lasting === undefined;
  const root = opens ? nextRoot(found) : active.id;
  if (opens) {
    const retired = { ...active, state: 'retired', since: timing.now } as const;
    fates.push(...fateOf(retired, false, timing));
  } else if (needsRoom && lasting !== undefined) {
    const { garbage } = active;
    fates.push({ do: 'wait', root: active.id, for: 'root', other: lasting.root, garbage });
  } else if (needsRoom) fates.push({ do: 'wait', root: active.id, for: 'names' });
  const copies = opens ? live : elsewhere;
  const steps: GcStep[] = remains.filter(isRemovable(found)).map(cleaning);
  const take = (kind: GcStep['do']) => steps.push(...fates.filter(step => step.do === kind));
  take('revive');
  if (opens) {
    const { id, garbage, holds } = active;
    steps.push({ do: 'open', root, active: id, garbage, holds });
  }
  if (objectsOf(copies) > 0) steps.push({ do: 'copy', root, usage: copies });
  for (const kind of ['expire', 'delete', 'wait'] as const) take(kind);
  return steps;
}

/** What becomes of a root that is not active. */
function fateOf(root: RootUse, isBlocked: boolean, { now, graceMs }: Timing): GcStep[] {
  const { id, state, since, alarmed, heldSince } = root;
  // A retired root with an alarm is one whose revival was cut off.
  if (alarmed !== undefined) return [{ do: 'revive', root: id, alarmed }];
  if (isBlocked) return [{ do: 'wait', root: id, for: 'names' }];
  if (heldSince !== undefined) return [{ do: 'wait', root: id, for: 'push', since: heldSince }];
  const next = state === 'retired' ? 'expire' : 'delete';
  const until = (from: Date) => new Date(from.getTime() + graceMs);
  // The store's clock may run backwards, and in steps of seconds: no grace is none at all.
  if (graceMs > 0 && now < until(since)) {
    return [{ do: 'wait', root: id, for: 'grace', next, since, until: until(since) }];
  }
  const deletion = deletionOf(root);
  if (state === 'expired') return [deletion];
  const expiration: GcStep = { do: 'expire', root: id, since };
  if (graceMs === 0) return [expiration, { ...deletion, since: now }];
  return [
    expiration,
    { do: 'wait', root: id, for: 'grace', next: 'delete', since: now, until: until(now) },
  ];
}

function deletionOf({ id, since, holds, garbage }: RootUse): GcStep & { do: 'delete' } {
  return {
    do: 'delete',
    root: id,
    since,
    objects: objectsOf(holds),
    bytes: bytesOf(holds),
    garbageBytes: bytesOf(garbage),
  };
}

function cleaning({ root, objects, bytes }: Remains): GcStep {
  return { do: 'clean', root, objects, bytes };
}

/**
 * A root without markers may also be one whose markers were lost by a fault: as long as a name
 * lacks anything, it may be there.
 */
function isRemovable({ problems }: Survey): (remains: Remains) => boolean {
  return ({ isMarked }) => isMarked || problems.length === 0;
}

/**
 * A number above the active root's that has no marker. Only a stranger puts one there; such roots
 * are passed by and never cleaned, since another collection may be about to open them.
 */
function nextRoot({ roots, deleted }: Survey): RootId {
  let next = nextRootId(roots[0].id);
  while (deleted.includes(next)) next = nextRootId(next);
  return next;
}
