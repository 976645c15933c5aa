/**
 * A bound on the gets that run at once, in which those that somebody waits for pass those that nobody
 * waits for (see prefetch.ts).
 *
 * Rules: demand is served in order of arrival, and no prefetch gets a place while demand waits.
 * Prefetches hold so few of the places that demand finds one when it comes; so many wait, in their
 * order, and one more is shed. One that becomes wanted is demand that arrives at that moment: if it
 * waits it goes behind the demand that waits, and the place that it may hold is a place of demand.
 * So demand starves prefetches, and only they are shed: how much demand waits is bounded by who asks.
 *
 * What happens to one costs the same however many wait, but where a limit grows.
 */

import { assert } from '../base/assert.ts';
import type { GetOptions } from './chunk-source.ts';
import { isUnwanted, type Prefetch, PrefetchShed } from './prefetch.ts';

export interface AdmissionOptions {
  /** Places. */
  atOnceMax: number;
  /** Of them, for prefetches; fewer than all. */
  prefetchAtOnceMax: number;
  prefetchWaitingMax: number;
}

/** To be given back once: `using place = await admission.acquire(options)`. */
export interface Place extends Disposable {
  release(): void;
}

interface Waiter {
  readonly prefetch: Prefetch | undefined;
  readonly admit: (place: Place) => void;
}

export class Admission {
  readonly #options: AdmissionOptions;
  /** Places now. */
  #places: number;
  #running = 0;
  /** Places held by prefetches that nobody wants yet. */
  #prefetching = 0;
  /** Nobody waits in them for a place that they could have. */
  readonly #demand = new Queue<Waiter>();
  readonly #prefetches = new Queue<Waiter>();

  constructor(options: AdmissionOptions) {
    assert(options.prefetchAtOnceMax < options.atOnceMax, 'prefetches leave a place for demand');
    this.#options = options;
    this.#places = options.atOnceMax;
  }

  /** A place when there is one. Errors: the signal's reason, PrefetchShed. */
  acquire({ signal, prefetch }: Pick<GetOptions, 'signal' | 'prefetch'>): Promise<Place> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    const unwanted = isUnwanted(prefetch);
    if (this.#hasPlace(unwanted)) return Promise.resolve(this.#take(prefetch));
    if (unwanted && this.#prefetches.size >= this.#options.prefetchWaitingMax) {
      return Promise.reject(new PrefetchShed('too many wait already'));
    }
    return this.#wait(signal, prefetch);
  }

  /** Another number of places, 1 to `atOnceMax`: who holds one that is too many keeps it. */
  limit(places: number): void {
    assert(places >= 1 && places <= this.atOnceMax, 'there are some places');
    this.#places = places;
    this.#admit();
  }

  /** All places, however few there are now. */
  get atOnceMax(): number {
    return this.#options.atOnceMax;
  }

  /** Places that are held. */
  get running(): number {
    return this.#running;
  }

  /** Of these, by what nobody waits for. */
  get prefetching(): number {
    return this.#prefetching;
  }

  get demandWaiting(): number {
    return this.#demand.size;
  }

  get prefetchesWaiting(): number {
    return this.#prefetches.size;
  }

  #hasPlace(unwanted: boolean): boolean {
    if (this.#running >= this.#places) return false;
    const prefetchesMax = Math.min(this.#options.prefetchAtOnceMax, this.#places - 1);
    return !unwanted || this.#prefetching < prefetchesMax;
  }

  #take(prefetch: Prefetch | undefined): Place {
    this.#running++;
    let unsubscribe = () => {};
    if (isUnwanted(prefetch)) {
      this.#prefetching++;
      unsubscribe = prefetch!.onWanted(() => {
        this.#prefetching--;
        this.#admit();
      });
    }
    let held = true;
    const release = () => {
      assert(held, 'a place is given back once');
      held = false;
      unsubscribe();
      if (isUnwanted(prefetch)) this.#prefetching--;
      this.#running--;
      this.#admit();
    };
    return { release, [Symbol.dispose]: release };
  }

  #wait(signal: AbortSignal | undefined, prefetch: Prefetch | undefined): Promise<Place> {
    const { promise, resolve, reject } = Promise.withResolvers<Place>();
    let leaveQueue = () => {};
    let unsubscribe = () => {};
    const leave = () => {
      leaveQueue();
      unsubscribe();
      signal?.removeEventListener('abort', onAbort);
    };
    const onAbort = () => {
      leave();
      reject(signal!.reason);
    };
    const waiter: Waiter = {
      prefetch,
      admit(place) {
        leave();
        resolve(place);
      },
    };
    if (isUnwanted(prefetch)) {
      leaveQueue = this.#prefetches.push(waiter);
      unsubscribe = prefetch!.onWanted(() => {
        leaveQueue();
        leaveQueue = this.#demand.push(waiter);
        this.#admit();
      });
    } else {
      leaveQueue = this.#demand.push(waiter);
    }
    signal?.addEventListener('abort', onAbort, { once: true });
    return promise;
  }

  #admit(): void {
    for (const queue of [this.#demand, this.#prefetches]) {
      for (let waiter = queue.first; waiter !== undefined; waiter = queue.first) {
        if (!this.#hasPlace(isUnwanted(waiter.prefetch))) break;
        waiter.admit(this.#take(waiter.prefetch));
      }
    }
  }
}

interface Link<V> {
  readonly value: V;
  previous: Link<V> | undefined;
  next: Link<V> | undefined;
}

/** In order of arrival; anybody may leave it at any time. */
class Queue<V> {
  #first: Link<V> | undefined;
  #last: Link<V> | undefined;
  #size = 0;

  get first(): V | undefined {
    return this.#first?.value;
  }

  get size(): number {
    return this.#size;
  }

  /** The answer takes it out, if it is still in. */
  push(value: V): () => void {
    const link: Link<V> = { value, previous: this.#last, next: undefined };
    if (this.#last === undefined) this.#first = link;
    else this.#last.next = link;
    this.#last = link;
    this.#size++;
    let isIn = true;
    return () => {
      if (!isIn) return;
      isIn = false;
      this.#take(link);
    };
  }

  #take({ previous, next }: Link<V>): void {
    if (previous === undefined) this.#first = next;
    else previous.next = next;
    if (next === undefined) this.#last = previous;
    else next.previous = previous;
    this.#size--;
  }
}
