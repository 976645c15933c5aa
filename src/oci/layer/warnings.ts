/** Warnings about single entries: the first few of each kind in full, then only how many. */

export type Warn = (kind: string, message: string) => void;

const shownPerKind = 3;

export class Warnings {
  readonly #emit: (message: string) => void;
  readonly #counts = new Map<string, number>();

  constructor(emit: (message: string) => void) {
    this.#emit = emit;
  }

  /** `kind` is one of few; `message` is one line without a full stop. */
  add(kind: string, message: string): void {
    const count = (this.#counts.get(kind) ?? 0) + 1;
    this.#counts.set(kind, count);
    if (count <= shownPerKind) this.#emit(message);
  }

  /** Says how many were not shown. */
  finish(): void {
    for (const [kind, count] of this.#counts) {
      if (count > shownPerKind) this.#emit(`${count - shownPerKind} more like this: ${kind}`);
    }
  }
}
