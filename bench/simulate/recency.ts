/**
 * Least-recently-used lists of numbered entries, one list a node, all in a few flat arrays: millions
 * of shards would not fit as objects.
 */

/** Entries and lists are numbered from 0; an entry is in one list at most. */
export class RecencyLists {
  readonly bytes: Float64Array;
  readonly #lists: number;
  /** Of lists, then of entries: those of a list make a ring through it. -1: in none. */
  #next: Int32Array;
  #previous: Int32Array;

  constructor(lists: number) {
    this.#lists = lists;
    this.bytes = new Float64Array(lists);
    this.#next = Int32Array.from({ length: lists }, (_, list) => list);
    this.#previous = this.#next.slice();
  }

  has(entry: number): boolean {
    const at = this.#lists + entry;
    return at < this.#next.length && this.#next[at] !== -1;
  }

  /** Puts an entry that is in no list in front, or behind all. */
  add(list: number, entry: number, sizeBytes: number, where: 'front' | 'back' = 'front'): void {
    const at = this.#lists + entry;
    this.#reach(at);
    this.#link(at, where === 'front' ? list : this.#previous[list]!);
    this.bytes[list]! += sizeBytes;
  }

  /** Moves an entry of this list to its front. */
  touch(list: number, entry: number): void {
    const at = this.#lists + entry;
    this.#unlink(at);
    this.#link(at, list);
  }

  remove(list: number, entry: number, sizeBytes: number): void {
    this.#unlink(this.#lists + entry);
    this.bytes[list]! -= sizeBytes;
  }

  /** The entry that was not used for longest; undefined if there is none. */
  last(list: number): number | undefined {
    const at = this.#previous[list]!;
    return at === list ? undefined : at - this.#lists;
  }

  #link(at: number, after: number): void {
    const before = this.#next[after]!;
    this.#next[after] = at;
    this.#previous[at] = after;
    this.#next[at] = before;
    this.#previous[before] = at;
  }

  #unlink(at: number): void {
    const next = this.#next[at]!;
    const previous = this.#previous[at]!;
    this.#next[previous] = next;
    this.#previous[next] = previous;
    this.#next[at] = -1;
  }

  #reach(at: number): void {
    const length = this.#next.length;
    if (at < length) return;
    const grow = (array: Int32Array) => {
      const grown = new Int32Array(Math.max(at + 1, Math.ceil(length * 1.5))).fill(-1, length);
      grown.set(array);
      return grown;
    };
    this.#next = grow(this.#next);
    this.#previous = grow(this.#previous);
  }
}
