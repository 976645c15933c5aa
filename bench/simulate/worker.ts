/**
 * A worker: its disk's cache (the very CacheIndex of the daemon), one fetch a chunk however many of
 * its starts wait, and the bound on its requests to the store (the daemon's Admission). A start
 * reads its chunks in order, a few at a time; what is on the worker's disk takes it no time.
 */

import { Admission } from '../../src/cache/admission.ts';
import { CacheIndex } from '../../src/cache/cache-index.ts';
import type { Random } from '../../test/support/random.ts';
import type { Clock } from './clock.ts';
import type { Fleet } from './fleet.ts';
import type { Meter } from './meter.ts';
import type { ChunkNumber, World } from './world.ts';

/** What all workers share. */
export interface Surroundings {
  readonly world: World;
  readonly fleet: Fleet;
  readonly clock: Clock;
  readonly meter: Meter;
  readonly random: Random;
  /** Whether workers that miss the same chunk in the shared cache fetch it once. */
  leases: boolean;
  /** The workers that wait for a promise of Admission, which has to be let run. */
  admitting: number;
}

/** A start's reads under way: the kernel reads ahead, programs have threads. */
const readsAtOnce = 4;
/** docs/shared-cache.md, measured; Lambda's own is published as 0.55 ms. */
const fleetMs = 1;
/** Published, of S3: the median. With this spread a tenth takes 68 ms, one of 400 more than 145 ms. */
const originMedianMs = 36;
const originSpread = 0.5;
/** A put is behind the answer, encoded and sent. */
const putMs = 3;

/** The daemon's bound on requests to one store. Nothing is prefetched here. */
const admissionOptions = { atOnceMax: 32, prefetchAtOnceMax: 16, prefetchWaitingMax: 64 };
/** As src/cache/fleet/leases.ts has them. No fetch here lasts so long that a lease is renewed. */
const leaseMs = 2000;
const waitMaxMs = 4000;
const pollFirstMs = 10;
const pollMaxMs = 320;

export class Worker {
  readonly #around: Surroundings;
  #index: CacheIndex;
  readonly #admission = new Admission(admissionOptions);
  /** Who waits for the chunks that are being fetched. */
  readonly #flights = new Map<ChunkNumber, Start[]>();

  constructor(around: Surroundings, cacheBytes: number) {
    this.#around = around;
    this.#index = new CacheIndex(cacheBytes);
  }

  /** Another worker comes in its place, with an empty disk. */
  replace(): void {
    this.#index = new CacheIndex(this.#index.sizeMaxBytes);
  }

  get cacheFill(): number {
    return this.#index.bytes / this.#index.sizeMaxBytes;
  }

  start(reads: Uint32Array): void {
    new Start(this, reads).advance();
  }

  /** What a start leaves behind here, with no time passing and nobody asked. */
  warm(reads: Uint32Array): void {
    for (const chunk of reads) if (!this.#holds(chunk)) this.#keep(chunk);
  }

  /** Whether it is here; else the start is told when it is. */
  read(chunk: ChunkNumber, start: Start): boolean {
    const { clock, meter } = this.#around;
    if (this.#holds(chunk)) {
      meter.read('l1', clock.nowMs);
      return true;
    }
    const flight = this.#flights.get(chunk);
    if (flight !== undefined) {
      flight.push(start);
    } else {
      this.#flights.set(chunk, [start]);
      clock.after(fleetMs, () => this.#askFleet(chunk));
    }
    return false;
  }

  #holds(chunk: ChunkNumber): boolean {
    return this.#index.use(this.#around.world.ids[chunk]!) !== undefined;
  }

  #keep(chunk: ChunkNumber): void {
    const { ids, sizesBytes } = this.#around.world;
    this.#index.add(ids[chunk]!, { sizeBytes: sizesBytes[chunk]!, touchedMs: 0 });
  }

  #askFleet(chunk: ChunkNumber): void {
    const { clock, random } = this.#around;
    if (this.#look(chunk)) return;
    if (this.#mayFetch(chunk)) void this.#askOrigin(chunk);
    else
      this.#wait(chunk, {
        polls: 0,
        untilMs: clock.nowMs + waitMaxMs * (0.75 + uniform(random) / 2),
      });
  }

  /** Another worker has the lease. */
  #wait(chunk: ChunkNumber, { polls, untilMs }: { polls: number; untilMs: number }): void {
    const { clock, random } = this.#around;
    if (clock.nowMs >= untilMs) {
      void this.#askOrigin(chunk);
      return;
    }
    const longestMs = Math.min(pollFirstMs * 2 ** polls, pollMaxMs);
    clock.after(longestMs * (0.5 + uniform(random) / 2), () => {
      if (this.#look(chunk)) return;
      if (this.#mayFetch(chunk)) void this.#askOrigin(chunk);
      else this.#wait(chunk, { polls: polls + 1, untilMs });
    });
  }

  #look(chunk: ChunkNumber): boolean {
    const { fleet, clock, meter } = this.#around;
    meter.askFleet(clock.nowMs);
    const isThere = fleet.read(chunk);
    if (isThere) this.#land(chunk, 'l2');
    return isThere;
  }

  #mayFetch(chunk: ChunkNumber): boolean {
    const { leases, fleet, clock } = this.#around;
    return !leases || fleet.lease(chunk, clock.nowMs, leaseMs);
  }

  async #askOrigin(chunk: ChunkNumber): Promise<void> {
    const { clock, meter, fleet, random } = this.#around;
    if (this.#admission.running >= admissionOptions.atOnceMax) meter.waitForPlace();
    this.#around.admitting++;
    const place = await this.#admission.acquire({});
    this.#around.admitting--;
    meter.askOrigin(chunk, clock.nowMs);
    const radius = Math.sqrt(-2 * Math.log(1 - uniform(random)));
    const normal = radius * Math.cos(2 * Math.PI * uniform(random));
    clock.after(originMedianMs * Math.exp(originSpread * normal), () => {
      place.release();
      this.#land(chunk, 'l3');
      clock.after(putMs, () => fleet.put(chunk));
    });
  }

  #land(chunk: ChunkNumber, tier: 'l2' | 'l3'): void {
    const { clock, meter } = this.#around;
    const waiting = this.#flights.get(chunk)!;
    this.#flights.delete(chunk);
    this.#keep(chunk);
    for (const start of waiting) {
      meter.read(tier, clock.nowMs);
      start.landed();
    }
  }
}

/** 0 to below 1. */
export function uniform(random: Random): number {
  return random.u32() / 2 ** 32;
}

class Start {
  readonly #worker: Worker;
  readonly #reads: Uint32Array;
  #next = 0;
  #waiting = 0;

  constructor(worker: Worker, reads: Uint32Array) {
    this.#worker = worker;
    this.#reads = reads;
  }

  advance(): void {
    while (this.#waiting < readsAtOnce && this.#next < this.#reads.length) {
      if (!this.#worker.read(this.#reads[this.#next++]!, this)) this.#waiting++;
    }
  }

  landed(): void {
    this.#waiting--;
    this.advance();
  }
}
