/**
 * Work that may never end, as reads of a disk may: it is given up after a while. One timer watches
 * all of it, since one for each read would cost a tenth of a hit. It counts the timer's ticks, so
 * that a process that was busy itself does not hold it against the disk.
 */

interface Running {
  ticks: number;
  giveUp(): void;
}

const ticksMax = 5;

export class Overdue {
  readonly #tickMs: number;
  readonly #running = new Set<Running>();
  #timer: NodeJS.Timeout | undefined;
  #count = 0;

  /** Work is given up after four fifths of `waitMs` at the earliest, and after `waitMs` at the latest. */
  constructor(waitMs: number) {
    this.#tickMs = waitMs / ticksMax;
  }

  /** What was given up and has not ended. */
  get count(): number {
    return this.#count;
  }

  /** What the work gives, or `fault`'s error once it is given up; it goes on all the same. */
  watch<Value>(work: Promise<Value>, fault: () => Error): Promise<Value> {
    const { promise, resolve, reject } = Promise.withResolvers<Value>();
    const running: Running = {
      ticks: 0,
      giveUp: () => {
        this.#count++;
        reject(fault());
      },
    };
    this.#running.add(running);
    this.#timer ??= setInterval(() => this.#tick(), this.#tickMs).unref();
    const ended = () => {
      if (!this.#running.delete(running)) this.#count--;
    };
    work.then(
      value => {
        ended();
        resolve(value);
      },
      (error: unknown) => {
        ended();
        reject(error);
      },
    );
    return promise;
  }

  #tick(): void {
    for (const running of this.#running) {
      if (++running.ticks < ticksMax) continue;
      this.#running.delete(running);
      running.giveUp();
    }
    if (this.#running.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
