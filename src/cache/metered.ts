/** Counts what a tier is asked and answers, and how long that takes. */

import { hasCode } from '../base/errors.ts';
import { Histogram, type HistogramFigures } from '../base/histogram.ts';
import type { ChunkSource } from './chunk-source.ts';

/**
 * `aborted`: the asker gave up, which says nothing about the tier. `shed`: a prefetch for which
 * there was no room.
 */
export const getOutcomes = ['hit', 'miss', 'fault', 'aborted', 'shed'] as const;
export type GetOutcome = (typeof getOutcomes)[number];

export interface TierFigures {
  tier: string;
  /** Gets that are under way. */
  inFlight: number;
  /** Of the chunks that it gave. */
  hitBytes: number;
  /** Chunks that it was told to forget since a copy was wrong. */
  drops: number;
  gets: Record<GetOutcome, HistogramFigures>;
}

/** Totals of one tier since the process started; several sources may be one tier. */
export class TierMeter {
  readonly tier: string;
  readonly #gets: Readonly<Record<GetOutcome, Histogram>> = {
    hit: new Histogram(),
    miss: new Histogram(),
    fault: new Histogram(),
    aborted: new Histogram(),
    shed: new Histogram(),
  };
  #inFlight = 0;
  #hitBytes = 0;
  #drops = 0;

  constructor(tier: string) {
    this.tier = tier;
  }

  begin(): void {
    this.#inFlight++;
  }

  /** `sizeBytes` of the answer; 0 unless it is a hit. */
  end(outcome: GetOutcome, durationMs: number, sizeBytes: number): void {
    this.#inFlight--;
    this.#hitBytes += sizeBytes;
    this.#gets[outcome].observe(durationMs);
  }

  dropped(): void {
    this.#drops++;
  }

  figures(): TierFigures {
    const gets = getOutcomes.map(outcome => [outcome, this.#gets[outcome].figures()]);
    return {
      tier: this.tier,
      inFlight: this.#inFlight,
      hitBytes: this.#hitBytes,
      drops: this.#drops,
      gets: Object.fromEntries(gets),
    };
  }
}

/** A get is counted before its answer is given. `nowMs` is a monotonic clock. */
export function metered(
  source: ChunkSource,
  meter: TierMeter,
  nowMs: () => number = () => performance.now(),
): ChunkSource {
  return {
    tier: source.tier,
    async get(id, options) {
      const startedMs = nowMs();
      meter.begin();
      try {
        const hit = await source.get(id, options);
        const outcome = hit === undefined ? 'miss' : 'hit';
        meter.end(outcome, nowMs() - startedMs, hit?.sealed.length ?? 0);
        return hit;
      } catch (error) {
        meter.end(outcomeOf(error, options.signal), nowMs() - startedMs, 0);
        throw error;
      }
    },
    put: (id, sealed) => source.put(id, sealed),
    drop(id, tier) {
      meter.dropped();
      return source.drop(id, tier);
    },
    close: () => source.close(),
  };
}

function outcomeOf(error: unknown, signal: AbortSignal | undefined): GetOutcome {
  if (signal?.aborted === true) return 'aborted';
  return hasCode(error, ['BUSY']) ? 'shed' : 'fault';
}
