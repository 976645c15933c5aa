/** What happens in a simulation, by minute and by second of its time. */

export type Tier = 'l1' | 'l2' | 'l3';

export interface Shares {
  l1: number;
  l2: number;
  l3: number;
}

const secondMs = 1000;
const minuteMs = 60_000;

export class Meter {
  readonly #reads: Record<Tier, Series> = { l1: new Series(), l2: new Series(), l3: new Series() };
  readonly #fleet = new Series();
  readonly #origin = new Series();
  /** Requests to the origin that had to wait, as the worker had as many out as it may. */
  waitedForPlace = 0;
  /** The chunks that were asked for since `markChunks`. */
  readonly #chunks = new Set<number>();

  read(tier: Tier, atMs: number): void {
    this.#reads[tier].count(Math.floor(atMs / minuteMs));
  }

  askFleet(atMs: number): void {
    this.#fleet.count(Math.floor(atMs / minuteMs));
  }

  askOrigin(chunk: number, atMs: number): void {
    this.#origin.count(Math.floor(atMs / secondMs));
    this.#chunks.add(chunk);
  }

  waitForPlace(): void {
    this.waitedForPlace++;
  }

  markChunks(): void {
    this.#chunks.clear();
  }

  get chunksAsked(): number {
    return this.#chunks.size;
  }

  /** Of the reads from one minute to before another. */
  shares(fromMinute: number, toMinute: number): Shares {
    const of = (tier: Tier) => this.#reads[tier].sum(fromMinute, toMinute);
    const all = of('l1') + of('l2') + of('l3');
    return { l1: of('l1') / all, l2: of('l2') / all, l3: of('l3') / all };
  }

  /** Requests a second on average. */
  originRate(fromMinute: number, toMinute: number): number {
    return this.originRequests(fromMinute, toMinute) / (60 * (toMinute - fromMinute));
  }

  originRequests(fromMinute: number, toMinute: number): number {
    return this.#origin.sum(60 * fromMinute, 60 * toMinute);
  }

  /** In the second that had the most. */
  originPeak(fromMinute: number, toMinute: number): number {
    return this.#origin.max(60 * fromMinute, 60 * toMinute);
  }

  /** Reads a second on average, of chunks. */
  fleetRate(fromMinute: number, toMinute: number): number {
    return this.#fleet.sum(fromMinute, toMinute) / (60 * (toMinute - fromMinute));
  }

  fleetPeak(fromMinute: number, toMinute: number): number {
    return this.#fleet.max(fromMinute, toMinute) / 60;
  }
}

class Series {
  readonly #counts: number[] = [];

  count(at: number): void {
    while (this.#counts.length <= at) this.#counts.push(0);
    this.#counts[at]!++;
  }

  sum(from: number, to: number): number {
    return this.#counts.slice(from, to).reduce((sum, count) => sum + count, 0);
  }

  max(from: number, to: number): number {
    return Math.max(0, ...this.#counts.slice(from, to));
  }
}
