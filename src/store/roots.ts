/**
 * The way into a store, and its roots: where pushes write, where readers look, what is being deleted.
 * docs/format/store-layout.md says what each marker means.
 *
 * Everything but names lies in a root, so that garbage collection can copy what lives into a new one
 * and delete the old one whole. Invariants: the store document is written before anything else, by a
 * put if absent, so two first pushes at once make one store; a marker is a fact that stays true, so
 * that several processes may add markers at once without a lock.
 */

import { describeError, ImgstoreError } from '../base/errors.ts';
import { rootsMax, storeDocumentSizeMaxBytes } from '../base/limits.ts';
import type { CopyingStore } from './copying-store.ts';
import {
  checkStoreDocument,
  chunksPrefix,
  firstRootId,
  formatStoreDocument,
  namesPrefix,
  parseStateKey,
  type RootFact,
  type RootId,
  recipesPrefix,
  rootNumber,
  stateKey,
  statesPrefix,
  storeDocumentKey,
} from './format.ts';
import type { ObjectStore } from './object-store.ts';
import { scoped } from './scoped.ts';

/**
 * active: pushes write and dedupe here; the newest that is not deleted.
 * retired: read-only; what live names need is copied to the active root.
 * expired: about to be deleted; a read from it works and is an alarm.
 */
export type RootState = 'active' | 'retired' | 'expired';

export interface Root {
  readonly id: RootId;
  readonly state: RootState;
  /** When it came into this state, and when an alarm was raised, by the store's clock. */
  readonly since: Date;
  readonly alarmed: Date | undefined;
  /** Sealed chunks, by `chunkObjectKey`. */
  readonly chunks: ObjectStore;
  /** Sealed recipes, by `recipeObjectKey`. */
  readonly recipes: ObjectStore;
}

export interface RootsView {
  /** Those that can be read, the newest first. The first is the active one. */
  readonly roots: readonly [Root, ...Root[]];
  /** Their deletion has begun, or ended but for a late marker: nothing is read from them. */
  readonly deleted: readonly RootId[];
}

export interface RootsOptions {
  /** One line: a read came from an expired root. */
  onAlarm?: (message: string) => void;
  signal?: AbortSignal | undefined;
}

interface Look {
  view: Promise<RootsView>;
  startedMs: number;
}

type Signal = { signal?: AbortSignal };

/** So often a reader looks for new roots without need: far more often than roots expire. */
const viewAgeMaxMs = 60_000;
const alarmRetryMs = 60_000;
/** While one search lasts, collections may change the roots; that often they do not. */
const searchesMax = 5;

export class Roots {
  readonly store: ObjectStore & CopyingStore;
  readonly names: ObjectStore;
  readonly #options: RootsOptions;
  /** The latest that succeeded. */
  #last: Look | undefined;
  #looking: Look | undefined;
  #next: Promise<RootsView> | undefined;
  /** The store document was checked: it never changes. */
  #checked = false;
  /** By expiration of a root, when an alarm about it may be put again. */
  readonly #alarmsDueMs = new Map<string, number>();

  /** Nothing is asked of the store yet. */
  constructor(store: ObjectStore & CopyingStore, options: RootsOptions = {}) {
    this.store = store;
    this.names = scoped(store, namesPrefix);
    this.#options = options;
  }

  /**
   * As they were when last looked at, at most `ageMaxMs` ago; without it, at any time. Errors:
   * NOT_FOUND without a store, UNSUPPORTED for one of another format, CORRUPT for damaged documents,
   * UNAVAILABLE for a store that is gone, those of the store.
   */
  async view({ ageMaxMs = Number.POSITIVE_INFINITY } = {}): Promise<RootsView> {
    const isFresh = (look: Look | undefined) =>
      look !== undefined && performance.now() - look.startedMs <= ageMaxMs;
    if (isFresh(this.#last)) return this.#last!.view;
    return isFresh(this.#looking) ? this.#looking!.view : this.refresh();
  }

  /** As they are at this moment or later. Errors: as view. */
  async refresh(): Promise<RootsView> {
    const look: Look = { view: this.#look(), startedMs: performance.now() };
    this.#looking = look;
    try {
      const view = await look.view;
      if (this.#last === undefined || this.#last.startedMs < look.startedMs) this.#last = look;
      return view;
    } finally {
      if (this.#looking === look) this.#looking = undefined;
    }
  }

  /**
   * Makes the store, or its first root, if there is none. Errors: as view, and USAGE for a place that
   * holds other things.
   */
  async create(): Promise<void> {
    try {
      await this.view();
      return;
    } catch (error) {
      if (!(error instanceof NoStoreError)) throw error;
    }
    const { signal } = this.#options;
    const options = signal === undefined ? {} : { signal };
    if (!this.#checked) await this.#createStore(options);
    const marker = stateKey(firstRootId, 'opened');
    await this.store.put(marker, new Uint8Array(), { ifAbsent: true, ...options });
    await this.refresh();
  }

  /** As refresh, one look at a time, however many objects are absent. */
  async #viewFromNow(): Promise<RootsView> {
    if (this.#looking === undefined) return this.refresh();
    // The one under way began too early; those who come meanwhile share the next.
    this.#next ??= this.#looking.view
      .catch(() => {})
      .then(() => {
        this.#next = undefined;
        return this.refresh();
      });
    return this.#next;
  }

  async active(): Promise<Root> {
    return (await this.view()).roots[0];
  }

  /**
   * What `look` finds in the first root that has it. It is absent only if the roots were the same
   * before and after it was looked for: a collection that moves it removes it where it was, and in a
   * store that is gone (a folder that was unmounted) everything is absent, which is UNAVAILABLE.
   * Reading from an expired root is an alarm: it stops the root's deletion.
   */
  async find<V>(
    look: (root: Root) => Promise<V | undefined>,
    what: string,
  ): Promise<{ found: V; root: Root } | undefined> {
    // What is found where it was is right however old the view is, so nobody waits for a newer one.
    const renewing = this.view({ ageMaxMs: viewAgeMaxMs });
    renewing.catch(() => {});
    let { roots } = await this.view();
    for (let search = 1; search <= searchesMax; search++) {
      for (const root of roots) {
        const found = await look(root);
        if (found === undefined) continue;
        if (root.state === 'expired') await this.#alarm(root, what);
        else this.#alarmIfExpired(root, what, renewing).catch(() => {});
        return { found, root };
      }
      const before = roots;
      ({ roots } = await this.#viewFromNow());
      if (roots.map(({ id }) => id).join() === before.map(({ id }) => id).join()) return undefined;
    }
    return undefined;
  }

  /** Where the view at hand is old, as after a sleep: by the one that is on its way. */
  async #alarmIfExpired({ id }: Root, what: string, renewing: Promise<RootsView>): Promise<void> {
    const root = (await renewing).roots.find(candidate => candidate.id === id);
    if (root?.state === 'expired') await this.#alarm(root, what);
  }

  /**
   * Once an expiration and process: a marker that is there already says all. One that cannot be put,
   * as by who may only read, is not tried with each read.
   */
  async #alarm(root: Root, what: string): Promise<void> {
    const expiration = `${root.id} ${root.since.getTime()}`;
    const nowMs = performance.now();
    if (nowMs < (this.#alarmsDueMs.get(expiration) ?? 0)) return;
    this.#alarmsDueMs.set(expiration, Number.POSITIVE_INFINITY);
    const read = `${what} was read from root ${root.id}, which is about to be deleted`;
    try {
      const text = `${JSON.stringify({ read: what })}\n`;
      await this.store.put(stateKey(root.id, 'alarm'), Buffer.from(text), { ifAbsent: false });
      this.#options.onAlarm?.(`${read}: the next gc will keep it`);
    } catch (error) {
      this.#alarmsDueMs.set(expiration, nowMs + alarmRetryMs);
      this.#options.onAlarm?.(`${read}, and gc cannot be told: ${describeError(error)}`);
    }
  }

  async #look(): Promise<RootsView> {
    const { signal } = this.#options;
    const aborting = signal === undefined ? {} : { signal };
    const [document, markers] = await Promise.all([
      this.#checked ? undefined : this.#document(aborting),
      this.#markers(aborting),
    ]);
    if (document !== undefined) this.#check(document);
    else if (!this.#checked) throw new NoStoreError(this.store);
    const view = viewOf(markers, this.store);
    if (view !== undefined) return view;
    if (this.#last !== undefined) {
      const message = `Cannot open the store ${this.store.location}: it is gone`;
      throw new ImgstoreError('UNAVAILABLE', message, { hint: 'Is it mounted?' });
    }
    // A first push that ended between the two, or one that runs right now.
    throw new NoStoreError(this.store);
  }

  #check(document: Uint8Array): void {
    checkStoreDocument(document, this.store.location);
    this.#checked = true;
  }

  async #markers(options: Signal): Promise<Map<RootId, Map<RootFact, Date>>> {
    const facts = new Map<RootId, Map<RootFact, Date>>();
    for await (const { key, modified } of this.store.list(statesPrefix, options)) {
      const parsed = parseStateKey(key.slice(statesPrefix.length + 1));
      if (parsed === undefined) continue;
      if (facts.size === rootsMax && !facts.has(parsed.root)) throw tooManyRoots(this.store);
      const ofRoot = facts.get(parsed.root) ?? new Map<RootFact, Date>();
      facts.set(parsed.root, ofRoot.set(parsed.fact, modified));
    }
    return facts;
  }

  async #document(options: Signal): Promise<Buffer | undefined> {
    return this.store.get(storeDocumentKey, {
      sizeMaxBytes: storeDocumentSizeMaxBytes,
      ...options,
    });
  }

  async #createStore(options: Signal): Promise<void> {
    const { store } = this;
    const empty = await isEmpty(store, options);
    // Another first push may have made the store since we looked: then it is not empty, and ours.
    const document = await this.#document(options);
    if (document !== undefined) return this.#check(document);
    if (!empty) {
      throw new ImgstoreError(
        'USAGE',
        `Cannot make a store in ${store.location}: other things are there and no ${storeDocumentKey}`,
        { hint: 'Name an empty place, or the folder that holds the store.' },
      );
    }
    const put = { ifAbsent: true, ...options };
    const outcome = await store.put(storeDocumentKey, formatStoreDocument(), put);
    const theirs = outcome === 'created' ? undefined : await this.#document(options);
    if (theirs !== undefined) this.#check(theirs);
    this.#checked = true;
  }
}

async function isEmpty(store: ObjectStore, options: Signal): Promise<boolean> {
  for await (const _ of store.list('', options)) return false;
  return true;
}

class NoStoreError extends ImgstoreError {
  constructor({ location }: ObjectStore) {
    super('NOT_FOUND', `Cannot open the store ${location}: no store is there`, {
      hint: 'Check the path; the first push makes a store.',
    });
  }
}

function tooManyRoots(store: ObjectStore): ImgstoreError {
  const message = `Cannot open the store ${store.location}: it has over ${rootsMax} roots`;
  return new ImgstoreError('LIMIT', message, {
    hint: 'No collection leaves so many: remove what somebody put below states/.',
  });
}

/** Undefined if no root is open. */
function viewOf(
  facts: ReadonlyMap<RootId, ReadonlyMap<RootFact, Date>>,
  store: ObjectStore,
): RootsView | undefined {
  const ids = [...facts.keys()].sort((a, b) => rootNumber(b) - rootNumber(a));
  // `opened` is put first and removed first, so what lacks it is the end of a deletion.
  const isDeleted = (id: RootId) => facts.get(id)!.has('deleted') || !facts.get(id)!.has('opened');
  const deleted = ids.filter(isDeleted);
  const roots: Root[] = [];
  let nextOpened: Date | undefined;
  for (const id of ids) {
    const opened = facts.get(id)!.get('opened');
    if (opened === undefined || isDeleted(id)) continue;
    const expired = facts.get(id)!.get('expired');
    const [state, since]: [RootState, Date] =
      nextOpened === undefined
        ? ['active', opened]
        : expired === undefined
          ? ['retired', nextOpened]
          : ['expired', expired];
    const chunks = scoped(store, chunksPrefix(id));
    const recipes = scoped(store, recipesPrefix(id));
    roots.push({ id, state, since, alarmed: facts.get(id)!.get('alarm'), chunks, recipes });
    nextOpened = opened;
  }
  const [active, ...older] = roots;
  return active && { roots: [active, ...older], deleted };
}
