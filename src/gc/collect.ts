/**
 * Does what a plan says. Each step that changes what readers and pushes may rely on is preceded by
 * a look of its own, in an order that leaves no gap; docs/format/store-layout.md has the argument:
 *
 * 1. leases: a push that is not seen here has written its name, or goes to the active root;
 * 2. names: what is needed;
 * 3. it is all in the active root, or is copied there;
 * 4. that root is still the active one;
 * 5. the marker.
 *
 * Every step may be repeated, cut off at any point, or done by two collections at once.
 */

import type { RecipeId } from '../base/digest.ts';
import { ImgstoreError } from '../base/errors.ts';
import { type RootFact, type RootId, stateKey } from '../store/format.ts';
import { heldSince, listLeases, RootLease, removeDeadLeases } from '../store/lease.ts';
import type { Root, Roots, RootsView } from '../store/roots.ts';
import { lookAtNames, type NamedRecipes } from './named-recipes.ts';
import type { GcPlan, GcStep, WaitReason } from './plan.ts';
import { type GcProblem, isBlocking } from './problem.ts';
import { removeRoot } from './remains.ts';
import { type Settled, settle } from './settle.ts';
import { noUsage, objectsOf, type Usage } from './usage.ts';

export interface CollectOptions {
  /** As each is done. */
  onStep?: (step: GcStep) => void;
  /** What was copied so far. */
  onProgress?: (copied: Usage) => void;
  liveChunksMax?: number | undefined;
  signal?: AbortSignal | undefined;
}

export interface Collected {
  /** What was done, and what waits. */
  steps: readonly GcStep[];
  problems: readonly GcProblem[];
}

/**
 * Errors: those of the store, BUSY if another collection opened a root meanwhile, which goes on
 * with the work, and the signal's reason. Whatever it is, the next collection goes on from there.
 */
export async function collect(
  roots: Roots,
  plan: GcPlan,
  options: CollectOptions = {},
): Promise<Collected> {
  const collection = new Collection(roots, plan, options);
  await collection.run();
  return { steps: collection.steps, problems: collection.problems };
}

/** What the last look found. */
interface Certificate {
  view: RootsView;
  heldSince: (root: RootId) => Date | undefined;
}

/** Settling is repeated if a root went away while it was copied from. */
const settlingsMax = 5;

class Collection {
  readonly steps: GcStep[] = [];
  problems: readonly GcProblem[] = [];
  readonly #roots: Roots;
  readonly #plan: GcPlan;
  readonly #options: CollectOptions;
  /** Recipes known to be in the active root with their chunks, where nothing is ever removed. */
  readonly #settled = new Set<RecipeId>();
  /** Chunks that are lost do not come back with a second look. */
  readonly #losses: GcProblem[] = [];
  #active: RootId;

  constructor(roots: Roots, plan: GcPlan, options: CollectOptions) {
    this.#roots = roots;
    this.#plan = plan;
    this.#options = options;
    this.#active = plan.survey.roots[0].id;
    this.problems = plan.survey.problems;
  }

  async run(): Promise<void> {
    const { steps } = this.#plan;
    for (const step of steps) {
      if (step.do === 'clean') this.#done({ ...step, ...(await this.#remove(step.root)) });
      else if (step.do === 'revive') await this.#revive(step.root, step.alarmed);
      else if (step.do === 'open') await this.#open(step);
    }
    if (steps.some(step => ['open', 'copy', 'expire', 'delete'].includes(step.do))) {
      await this.#viewOfActive();
      // As a push does, so that no other collection removes what is being copied to.
      await using lease = await RootLease.take(this.#roots, this.#options.signal);
      if (lease.root.id !== this.#active) throw superseded(lease.root.id);
      await this.#expireAndDelete();
    }
    for (const step of steps) if (step.do === 'wait') this.#done(step);
    await removeDeadLeases(this.#roots.store, this.#plan.now, this.#options.signal);
  }

  async #expireAndDelete(): Promise<void> {
    const { steps, graceMs } = this.#plan;
    const certificate = await this.#certify();
    for (const step of steps) {
      if (step.do !== 'expire') continue;
      const root = await this.#passing(step.root, 'retired', certificate);
      if (root === undefined) continue;
      await this.#mark(root.id, 'expired');
      this.#done({ ...step, since: root.since });
    }
    const deletions = steps.filter(step => step.do === 'delete');
    if (deletions.length === 0) return;
    // A look after the roots expired: a push that slept too long may have written its name since.
    const last = await this.#certify();
    for (const step of deletions) {
      const root = await this.#passing(step.root, 'expired', last);
      // One that was revived and has expired again since the plan has its grace before it.
      if (root === undefined || (graceMs > 0 && root.since > step.since)) continue;
      await this.#mark(root.id, 'deleted');
      const { objects, bytes } = await this.#remove(root.id);
      this.#done({ ...step, since: root.since, objects, bytes });
    }
  }

  /** The root, if it is in this state and nothing keeps it there. */
  async #passing(
    id: RootId,
    state: Root['state'],
    { view, heldSince: heldSinceOf }: Certificate,
  ): Promise<Root | undefined> {
    const root = view.roots.find(candidate => candidate.id === id && candidate.state === state);
    if (root === undefined) return undefined; // it was told why, or another collection was faster
    if (root.alarmed !== undefined) {
      await this.#revive(id, root.alarmed);
      return undefined;
    }
    const since = heldSinceOf(id);
    const reason: WaitReason | undefined = this.problems.some(isBlocking)
      ? { for: 'names' }
      : since && { for: 'push', since };
    if (reason === undefined) return root;
    this.#done({ do: 'wait', root: id, ...reason });
    return undefined;
  }

  /** When it resolves, all that names need is in the active root, and was while that was active. */
  async #certify(): Promise<Certificate> {
    const { store } = this.#roots;
    const { signal } = this.#options;
    for (let attempt = 1; ; attempt++) {
      const leases = await listLeases(store, signal);
      const named = await lookAtNames(this.#roots, signal);
      const before = await this.#viewOfActive();
      const { recipes, problems } = await this.#settle(named, before);
      const view = await this.#viewOfActive();
      const isGone = ({ id }: Root) => !view.roots.some(root => root.id === id);
      // What went away with a root is in the active one: another collection has seen to that.
      if (problems.length > 0 && before.roots.some(isGone)) {
        if (attempt === settlingsMax) throw superseded(this.#active);
        continue;
      }
      for (const id of recipes) this.#settled.add(id);
      this.#losses.push(...problems.filter(({ what }) => what === 'chunks-lost'));
      const passing = problems.filter(({ what }) => what !== 'chunks-lost');
      this.problems = [...named.problems, ...passing, ...this.#losses];
      return { view, heldSince: id => heldSince(id, leases, this.#plan.now) };
    }
  }

  async #settle(named: NamedRecipes, { roots }: RootsView): Promise<Settled> {
    const names = new Map([...named.names].filter(([id]) => !this.#settled.has(id)));
    if (names.size === 0) return { recipes: [], problems: [] };
    const { onProgress, liveChunksMax, signal } = this.#options;
    const copied = noUsage();
    const bounds = { onProgress, liveChunksMax, signal };
    const { store } = this.#roots;
    const settled = await settle({ store, roots, named: { ...named, names }, copied, ...bounds });
    if (objectsOf(copied) > 0) this.#done({ do: 'copy', root: this.#active, usage: copied });
    return settled;
  }

  async #viewOfActive(): Promise<RootsView> {
    const view = await this.#roots.refresh();
    if (view.roots[0].id !== this.#active) throw superseded(view.roots[0].id);
    return view;
  }

  async #open(step: GcStep & { do: 'open' }): Promise<void> {
    await this.#mark(step.root, 'opened');
    this.#active = step.root;
    this.#done(step);
  }

  /** `expired` first: with an alarm and no expiration, the next collection does the rest. */
  async #revive(root: RootId, alarmed: Date): Promise<void> {
    const { signal } = this.#options;
    for (const fact of ['expired', 'alarm'] satisfies RootFact[]) {
      await this.#roots.store.remove(stateKey(root, fact), signal && { signal });
    }
    this.#done({ do: 'revive', root, alarmed });
  }

  #remove(root: RootId): ReturnType<typeof removeRoot> {
    return removeRoot(this.#roots.store, root, this.#options.signal);
  }

  async #mark(root: RootId, fact: RootFact): Promise<void> {
    const { signal } = this.#options;
    const options = { ifAbsent: true, ...(signal && { signal }) };
    await this.#roots.store.put(stateKey(root, fact), new Uint8Array(), options);
  }

  #done(step: GcStep): void {
    this.steps.push(step);
    this.#options.onStep?.(step);
  }
}

function superseded(active: RootId): ImgstoreError {
  const state = `another collection has opened root ${active}`;
  return new ImgstoreError('BUSY', `Cannot go on collecting: ${state}`, {
    hint: 'It does the same work; run imgstore gc again when it is done.',
  });
}
