/** A bound on how many things run at once. Those that wait are served in order of arrival. */
export class Limiter {
  readonly #max: number;
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(max: number) {
    this.#max = max;
  }

  async run<V>(work: () => Promise<V>): Promise<V> {
    await this.acquire();
    try {
      return await work();
    } finally {
      this.release();
    }
  }

  /** Takes a place; undefined if one was free, so that hot paths need not await. */
  acquire(): Promise<void> | undefined {
    if (this.#running < this.#max) {
      this.#running++;
      return undefined;
    }
    return new Promise(resolve => this.#waiting.push(resolve));
  }

  /** As acquire, but an abort ends the waiting with the signal's reason. */
  async acquireUnlessAborted(signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    const turn = this.acquire();
    if (turn === undefined || signal === undefined) return turn;
    let onAbort: (() => void) | undefined;
    const aborted = new Promise<'aborted'>(resolve => {
      onAbort = () => resolve('aborted');
      signal.addEventListener('abort', onAbort, { once: true });
    });
    const outcome = await Promise.race([turn, aborted]);
    signal.removeEventListener('abort', onAbort!);
    if (outcome !== 'aborted') return;
    // The place in the queue stays, so its turn is passed on when it comes.
    turn.then(() => this.release());
    throw signal.reason;
  }

  /** Gives the place to who waits longest. */
  release(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#running--;
    else next();
  }

  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    return this.#waiting.length;
  }
}
