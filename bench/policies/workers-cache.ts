/** The worker's cache itself, src/cache/cache-index.ts, used as DiskCache uses it. */

import { CacheIndex } from '../../src/cache/cache-index.ts';
import type { Trace } from '../traces/trace.ts';
import type { Policy } from './policy.ts';

export class WorkersCache implements Policy {
  readonly #trace: Trace;
  readonly #touchInterval: number;
  readonly #written: Float64Array;
  readonly #touched: Float64Array;
  #index: CacheIndex;
  #now = 0;

  /** Files are touched once in so many requests. */
  constructor(trace: Trace, sizeMaxBytes: number, touchInterval = Infinity) {
    this.#trace = trace;
    this.#touchInterval = touchInterval;
    this.#written = new Float64Array(trace.ids.length);
    this.#touched = new Float64Array(trace.ids.length);
    this.#index = new CacheIndex(sizeMaxBytes);
  }

  request(chunk: number): boolean {
    this.#now++;
    const id = this.#trace.ids[chunk]!;
    if (this.#index.use(id) !== undefined) {
      const touched = this.#touched[chunk]!;
      const due = touched === 0 || this.#now - touched >= this.#touchInterval;
      if (due) this.#touched[chunk] = this.#now;
      return true;
    }
    this.#written[chunk] = this.#now;
    this.#touched[chunk] = 0;
    this.#index.add(id, { sizeBytes: this.#trace.sizes[chunk]!, touchedMs: 0 });
    return false;
  }

  /** All that is left is what the files' times tell: with the sign of a use, or the order alone. */
  restart(keepsSign: boolean): void {
    const { ids, sizes } = this.#trace;
    const time = (chunk: number) => this.#touched[chunk]! || this.#written[chunk]!;
    const here = Array.from(ids.keys()).filter(chunk => this.#index.peek(ids[chunk]!));
    this.#index = new CacheIndex(this.#index.sizeMaxBytes);
    for (const chunk of here.sort((a, b) => time(a) - time(b))) {
      const touchedMs = keepsSign ? this.#touched[chunk]! : 0;
      this.#index.add(ids[chunk]!, { sizeBytes: sizes[chunk]!, touchedMs });
    }
  }
}
