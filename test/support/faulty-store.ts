/**
 * An object store in memory that does what services, networks and file servers do to their callers.
 * What happens to a call follows from the seed, the kind of call, its key and how often that was
 * called, so a seed gives the same faults whatever runs beside what.
 *
 * Invariants: an object is never seen in part where it lies, and a get or stat sees every put that was
 * answered: those are promises of every store. Lists may lag, by at most `staleMaxMs`; what a service
 * carries out late, it does within `lateMaxMs`.
 */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { ImgstoreError } from '../../src/base/errors.ts';
import { RetryableFault } from '../../src/base/retry.ts';
import type { CopyingStore, CopyOptions } from '../../src/store/copying-store.ts';
import type {
  GetObjectOptions,
  ObjectStat,
  PutOptions,
  PutOutcome,
} from '../../src/store/object-store.ts';
import { type ListPage, listPages, type PagedStore } from '../../src/store/retrying.ts';
import type { MemoryStore } from './memory-store.ts';
import { Random } from './random.ts';
import type { VirtualClock } from './virtual-clock.ts';
import type { StoreCall } from './watched-store.ts';

export type FaultKind =
  /** An error, and nothing was done. */
  | 'refused'
  /** Done, but the answer is an error. */
  | 'lost'
  /** The answer is an error; it is done some time later. */
  | 'late'
  /** Done and answered; some time later done once more. */
  | 'again'
  /** The answer takes long. */
  | 'stalled'
  /** Of gets: a bit has another value; bytes are missing; there are more. */
  | 'flipped'
  | 'cut'
  | 'lengthened'
  /** Of lists: the page is what it was some time ago. */
  | 'stale';

const kindsOf: Readonly<Record<StoreCall['kind'], readonly FaultKind[]>> = {
  get: ['refused', 'stalled', 'flipped', 'cut', 'lengthened'],
  stat: ['refused', 'stalled'],
  list: ['refused', 'stalled', 'stale'],
  put: ['refused', 'stalled', 'lost', 'late', 'again'],
  copy: ['refused', 'stalled', 'lost', 'late', 'again'],
  remove: ['refused', 'stalled', 'lost', 'late', 'again'],
};

/** How likely each kind is, 0 to 1; together at most 1. Those not named do not happen. */
export type FaultRates = Readonly<Partial<Record<FaultKind, number>>>;

export interface FaultyStoreOptions {
  seed: number;
  clock: VirtualClock;
  rates: FaultRates | ((call: StoreCall) => FaultRates);
  lateMaxMs?: number;
  staleMaxMs?: number;
  stallMaxMs?: number;
  /** The objects are other ones now. */
  onChange?: () => void;
}

type Aborting = { signal?: AbortSignal };

interface Change {
  atMs: number;
  key: string;
  before: ObjectStat | undefined;
}

const pageKeysMax = 8;
/** A request that works takes up to this. */
const requestMaxMs = 20;
/** In turns of the event loop. */
const requestMaxTurns = 4;
const stallMaxTurns = 60;
const uuidPattern = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g;

export class FaultyStore implements PagedStore, CopyingStore {
  readonly location = 'faulty';
  readonly inner: MemoryStore;
  /** Of calls that came to the store; of a list, each page is one. */
  readonly calls: StoreCall[] = [];
  /** What happened, and how often. */
  readonly injected = new Map<FaultKind, number>();
  #options: FaultyStoreOptions;
  readonly #times = new Map<string, number>();
  readonly #changes: Change[] = [];
  #due: { atMs: number; work: () => Promise<unknown> }[] = [];

  /** The objects' times are those of `inner`, which should have the same clock. */
  constructor(inner: MemoryStore, options: FaultyStoreOptions) {
    this.inner = inner;
    this.#options = options;
  }

  /** From now on these faults happen. */
  set rates(rates: FaultyStoreOptions['rates']) {
    this.#options = { ...this.#options, rates };
  }

  /** No faults any more; what was to be done later is done now. */
  async calm(): Promise<void> {
    this.rates = {};
    this.#options.clock.advance(this.#lateMaxMs);
    await this.#doLateWork();
  }

  get(key: string, options: GetObjectOptions): Promise<Buffer | undefined> {
    return this.#call({ kind: 'get', key }, options, async (fault, random) => {
      const bytes = await this.inner.get(key, options);
      return bytes && damaged(bytes, fault, random, options.sizeMaxBytes);
    });
  }

  stat(key: string, options: Aborting = {}): Promise<ObjectStat | undefined> {
    return this.#call({ kind: 'stat', key }, options, () => this.inner.stat(key));
  }

  put(key: string, bytes: Uint8Array, options: PutOptions): Promise<PutOutcome> {
    const kept = Buffer.from(bytes);
    const { ifAbsent } = options;
    return this.#call({ kind: 'put', key }, options, () =>
      this.#change(key, () => this.inner.put(key, kept, { ifAbsent })),
    );
  }

  copy(from: string, to: string, options: CopyOptions = {}): Promise<boolean> {
    const { ifAbsent = false } = options;
    return this.#call({ kind: 'copy', key: to }, options, () =>
      this.#change(to, () => this.inner.copy(from, to, { ifAbsent })),
    );
  }

  async remove(key: string, options: Aborting = {}): Promise<void> {
    await this.#call({ kind: 'remove', key }, options, () =>
      this.#change(key, () => this.inner.remove(key)),
    );
  }

  list(prefix: string, { signal }: Aborting = {}): AsyncGenerator<ObjectStat, void, undefined> {
    return listPages(page => this.listPage(prefix, { page, ...(signal && { signal }) }), signal);
  }

  listPage(
    prefix: string,
    { page = '', signal }: { page?: string | undefined; signal?: AbortSignal },
  ): Promise<ListPage> {
    const call: StoreCall = { kind: 'list', key: prefix };
    return this.#call(call, signal ? { signal } : {}, async (fault, random) => {
      const ageMs = fault === 'stale' ? random.below(this.#options.staleMaxMs ?? 0) : 0;
      const objects = (await this.#objectsAt(this.#options.clock.now() - ageMs, prefix))
        .filter(({ key }) => key > page)
        .sort((a, b) => (a.key < b.key ? -1 : 1));
      const shown = objects.slice(0, pageKeysMax);
      return { objects: shown, next: objects.length > pageKeysMax ? shown.at(-1)!.key : undefined };
    });
  }

  get #lateMaxMs(): number {
    return this.#options.lateMaxMs ?? 0;
  }

  async #call<V>(
    call: StoreCall,
    { signal }: Aborting,
    work: (fault: FaultKind | undefined, random: Random) => Promise<V>,
  ): Promise<V> {
    signal?.throwIfAborted();
    this.calls.push(call);
    const random = this.#randomOf(call);
    const fault = this.#draw(call, random);
    const { clock, stallMaxMs = 0 } = this.#options;
    // Calls overtake each other: others come to many of theirs while this one stalls.
    const turns = random.below(fault === 'stalled' ? stallMaxTurns : requestMaxTurns);
    for (let turn = 0; turn < turns; turn++) await nextTurn();
    await clock.sleep(1 + random.below(fault === 'stalled' ? stallMaxMs : requestMaxMs), signal);
    await this.#doLateWork();
    if (fault === 'late' || fault === 'again') {
      const atMs = clock.now() + random.below(this.#lateMaxMs);
      this.#due.push({ atMs, work: () => work(undefined, random) });
    }
    if (fault === 'refused' || fault === 'late') throw fails(call, fault);
    const answer = await work(fault, random);
    if (fault === 'lost') throw fails(call, fault);
    return answer;
  }

  #randomOf({ kind, key }: StoreCall): Random {
    const what = `${kind} ${key.replace(uuidPattern, '-')}`;
    const time = (this.#times.get(what) ?? 0) + 1;
    this.#times.set(what, time);
    return new Random(crc32(`${this.#options.seed} ${what} ${time}`));
  }

  #draw(call: StoreCall, random: Random): FaultKind | undefined {
    const { rates } = this.#options;
    const chances = typeof rates === 'function' ? rates(call) : rates;
    let left = random.u32() / 2 ** 32;
    for (const fault of kindsOf[call.kind]) {
      left -= chances[fault] ?? 0;
      if (left >= 0) continue;
      this.injected.set(fault, (this.injected.get(fault) ?? 0) + 1);
      return fault;
    }
    return undefined;
  }

  async #doLateWork(): Promise<void> {
    const nowMs = this.#options.clock.now();
    const ready = this.#due.filter(({ atMs }) => atMs <= nowMs).sort((a, b) => a.atMs - b.atMs);
    this.#due = this.#due.filter(({ atMs }) => atMs > nowMs);
    for (const { work } of ready) await work();
  }

  /** A store in memory changes when it is called, before anything else has its turn. */
  #change<V>(key: string, work: () => Promise<V>): Promise<V> {
    const { clock, onChange } = this.#options;
    this.#changes.push({ atMs: clock.now(), key, before: this.#statOf(key) });
    const working = work();
    onChange?.();
    return working;
  }

  async #objectsAt(timeMs: number, prefix: string): Promise<ObjectStat[]> {
    const objects = new Map<string, ObjectStat>();
    for await (const found of this.inner.list(prefix)) objects.set(found.key, found);
    for (const { atMs, key, before } of this.#changes.toReversed()) {
      if (atMs <= timeMs) break;
      if (prefix !== '' && !key.startsWith(`${prefix}/`)) continue;
      if (before === undefined) objects.delete(key);
      else objects.set(key, before);
    }
    return [...objects.values()];
  }

  #statOf(key: string): ObjectStat | undefined {
    const object = this.inner.objects.get(key);
    return object && { key, sizeBytes: object.bytes.length, modified: object.modified };
  }
}

function damaged(
  bytes: Buffer,
  fault: FaultKind | undefined,
  random: Random,
  sizeMaxBytes: number,
): Buffer {
  if (fault === 'cut') return bytes.subarray(0, random.below(bytes.length));
  if (fault === 'lengthened') {
    const longer = Buffer.concat([bytes, random.bytes(random.between(1, 100))]);
    if (longer.length <= sizeMaxBytes) return longer;
    throw new ImgstoreError('LIMIT', `Cannot read it: it has more than ${sizeMaxBytes} bytes`);
  }
  if (fault !== 'flipped' || bytes.length === 0) return bytes;
  const at = random.below(bytes.length);
  bytes[at] = bytes[at]! ^ (1 << random.below(8));
  return bytes;
}

function fails({ kind, key }: StoreCall, fault: FaultKind): RetryableFault {
  const message = `Cannot ${kind} ${key} in the store faulty: ${fault}`;
  return new RetryableFault(message, { hint: 'Run it again later.' });
}
