/**
 * Whether anybody answers. When all nodes of a fleet are silent at the same moment, it is this process
 * that is late, or the machine or the network that they share, and no node is to blame for it; but
 * not for long, since all of them may be gone.
 */

/** Well above any pause of a process that runs, below what reads should wait for nodes in vain. */
const excusedMaxMs = 1000;

export class Pulse {
  readonly #nowMs: () => number;
  #answeredMs = Number.NEGATIVE_INFINITY;
  /** When the first request was sent of which, or after which, nothing was answered. */
  #silentSinceMs: number | undefined;

  /** `nowMs`: a monotonic clock. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** When it was. */
  sent(): number {
    const nowMs = this.#nowMs();
    this.#silentSinceMs ??= nowMs;
    return nowMs;
  }

  answered(): void {
    this.#answeredMs = this.#nowMs();
    this.#silentSinceMs = undefined;
  }

  /** Whether a request that was sent then is not to be held against its node. */
  excuses(sentMs: number): boolean {
    const silentSinceMs = this.#silentSinceMs ?? sentMs;
    return this.#answeredMs < sentMs && this.#nowMs() - silentSinceMs < excusedMaxMs;
  }
}
