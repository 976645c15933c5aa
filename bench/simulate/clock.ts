/** Virtual time: what is to happen, in order. Nothing here looks at a real clock. */

interface Event {
  readonly atMs: number;
  /** Of two at the same time, the one that was planned first. */
  readonly order: number;
  readonly happen: () => void;
}

export class Clock {
  nowMs = 0;
  /** A heap: the next event is the first. */
  readonly #events: Event[] = [];
  #planned = 0;

  after(waitMs: number, happen: () => void): void {
    const event = { atMs: this.nowMs + waitMs, order: this.#planned++, happen };
    const events = this.#events;
    let at = events.length;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (isBefore(events[parent]!, event)) break;
      events[at] = events[parent]!;
      at = parent;
    }
    events[at] = event;
  }

  /** What is planned up to then, and what that plans. */
  async runUntil(endMs: number, settled: () => Promise<void> | undefined): Promise<void> {
    while (this.#events.length > 0 && this.#events[0]!.atMs <= endMs) {
      const { atMs, happen } = this.#take();
      this.nowMs = atMs;
      happen();
      const turn = settled();
      if (turn !== undefined) await turn;
    }
    this.nowMs = endMs;
  }

  #take(): Event {
    const events = this.#events;
    const first = events[0]!;
    const last = events.pop()!;
    const count = events.length;
    if (count === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= count) break;
      if (child + 1 < count && isBefore(events[child + 1]!, events[child]!)) child++;
      if (isBefore(last, events[child]!)) break;
      events[at] = events[child]!;
      at = child;
    }
    events[at] = last;
    return first;
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
