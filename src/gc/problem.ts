/** What a collection finds wrong that is none of its doing; it goes on with the rest. */

export interface GcProblem {
  what: /**
   * A name record cannot be read, or a name's recipe, or it is in no root: what it needs cannot be
   * told. A damaged record may mean a recipe that never was, and the true one is still there.
   */
    | 'name-untold'
    /** Chunks of a name's recipe are in no root. */
    | 'chunks-lost';
  /** The names that are hurt, sorted. */
  names: readonly string[];
  problem: string;
}

/** While a name cannot be told, nothing may go: it may need anything. */
export function isBlocking({ what }: GcProblem): boolean {
  return what === 'name-untold';
}
