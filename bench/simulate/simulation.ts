/** A fleet of workers on which images are started at random, at a steady rate, in virtual time. */

import { Random } from '../../test/support/random.ts';
import { Clock } from './clock.ts';
import { Fleet, type FleetOptions } from './fleet.ts';
import { Meter } from './meter.ts';
import { Uploads } from './uploads.ts';
import { type Surroundings, Worker } from './worker.ts';
import type { Popularity, World } from './world.ts';

export interface SimulationOptions {
  seed: number;
  workers: number;
  /** Of each worker's disk. */
  workerCacheBytes: number;
  fleet: FleetOptions;
  leases: boolean;
  /** Of all workers together. */
  startsPerSecond: number;
  /** The share of starts that go to a worker of the image's own, if it can: see `Placing`. */
  affinity: number;
  /** Images that are uploaded again, to starts. */
  uploadsPerStart: number;
}

/**
 * Which worker a start goes to: with the probability of `affinity` one of the image's own, of which
 * it has one, or twice as many as would be busy with nothing but it; else any.
 */
export class Placing {
  readonly #popularity: Popularity;
  readonly #workers: number;
  readonly #affinity: number;

  constructor(popularity: Popularity, workers: number, affinity: number) {
    this.#popularity = popularity;
    this.#workers = workers;
    this.#affinity = affinity;
  }

  workerOf(rank: number, random: Random): number {
    const workers = this.#workers;
    if (!random.chance(this.#affinity)) return random.below(workers);
    const own = Math.ceil(2 * this.#popularity.shareOf(rank) * workers);
    const first = Math.imul(rank + 1, 0x9e3779b1) >>> 0;
    return (first + random.below(Math.min(own, workers))) % workers;
  }
}

export class Simulation {
  readonly options: SimulationOptions;
  readonly world: World;
  readonly fleet: Fleet;
  readonly meter = new Meter();
  readonly workers: readonly Worker[];
  readonly #clock = new Clock();
  readonly #random: Random;
  readonly #popularity: Popularity;
  readonly #placing: Placing;
  readonly #uploads: Uploads;
  readonly #around: Surroundings;

  constructor(world: World, popularity: Popularity, options: SimulationOptions) {
    this.options = options;
    this.world = world;
    this.#popularity = popularity;
    this.#placing = new Placing(popularity, options.workers, options.affinity);
    this.#random = new Random(options.seed);
    this.#uploads = new Uploads(world, popularity, options.uploadsPerStart, this.#random);
    this.fleet = new Fleet(world, options.fleet);
    this.#around = {
      world,
      fleet: this.fleet,
      clock: this.#clock,
      meter: this.meter,
      random: new Random(options.seed + 1),
      leases: options.leases,
      admitting: 0,
    };
    this.workers = Array.from(
      { length: options.workers },
      () => new Worker(this.#around, options.workerCacheBytes),
    );
    this.#planStart();
  }

  /** What so many starts leave behind on the workers, and on the fleet starts that never ended. */
  warm(starts: number, latestFirst: Uint32Array): void {
    for (let at = 0; at < starts; at++) {
      const rank = this.#popularity.next(this.#random);
      this.#workerOf(rank).warm(this.world.readsOf(this.world.imageOfRank(rank)));
    }
    this.fleet.fill(latestFirst);
    this.#uploads.begin();
  }

  set leases(used: boolean) {
    this.#around.leases = used;
  }

  /** Whole minutes since the beginning. */
  get minute(): number {
    return Math.round(this.#clock.nowMs / 60_000);
  }

  async run(minutes: number): Promise<void> {
    const endMs = (this.minute + minutes) * 60_000;
    await this.#clock.runUntil(endMs, () => (this.#around.admitting > 0 ? nextTurn() : undefined));
  }

  /** In so many minutes from now. */
  plan(minutes: number, happen: () => void): void {
    this.#clock.after(minutes * 60_000, happen);
  }

  /** On any worker. */
  start(reads: Uint32Array): void {
    this.workers[this.#random.below(this.workers.length)]!.start(reads);
  }

  #planStart(): void {
    const { startsPerSecond } = this.options;
    const waitS = -Math.log((this.#random.u32() + 0.5) / 2 ** 32) / startsPerSecond;
    this.#clock.after(1000 * waitS, () => {
      const rank = this.#popularity.next(this.#random);
      const image = this.world.imageOfRank(rank);
      this.#uploads.next();
      this.#workerOf(rank).start(this.world.readsOf(image));
      this.#planStart();
    });
  }

  #workerOf(rank: number): Worker {
    return this.workers[this.#placing.workerOf(rank, this.#random)]!;
  }
}

/** Promises that are settled already have then been heeded. */
async function nextTurn(): Promise<void> {
  for (let turn = 0; turn < 4; turn++) await undefined;
}
