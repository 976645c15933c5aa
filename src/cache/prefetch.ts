/**
 * Gets that nobody waits for yet. Each carries a Prefetch; as soon as somebody waits for what it
 * fetches, it is wanted, and from then on it counts as any other get, wherever it is: also in a
 * queue, or who waits would stand behind all that nobody waits for.
 */

import { ImgstoreError } from '../base/errors.ts';

export class Prefetch {
  #wanted = false;
  readonly #listeners = new Set<() => void>();

  /** Somebody waits for it; stays true. */
  get wanted(): boolean {
    return this.#wanted;
  }

  want(): void {
    if (this.#wanted) return;
    this.#wanted = true;
    for (const listener of this.#listeners) listener();
    this.#listeners.clear();
  }

  /** Calls it once, within `want`, or now if it is wanted already. The answer takes it off. */
  onWanted(listener: () => void): () => void {
    if (this.#wanted) listener();
    else this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** Whether nobody waits for a get with this option. */
export function isUnwanted(prefetch: Prefetch | undefined): boolean {
  return prefetch !== undefined && !prefetch.wanted;
}

/** There is no room for a get that nobody waits for. It says nothing about the tier or the chunk. */
export class PrefetchShed extends ImgstoreError {
  /** `state`: why, as "too many wait already". */
  constructor(state: string) {
    super('BUSY', `Cannot prefetch: ${state}`, { hint: 'It is fetched when it is read.' });
  }
}

/**
 * What a flight does that others may join, and thereby want. If it is shed but was wanted by then,
 * it asks once more, as demand. `land` is called at the moment at which the outcome is settled: who
 * comes later must begin anew, or one who waits would share the fate of a prefetch.
 */
export async function fly<V>(
  prefetch: Prefetch | undefined,
  ask: (prefetch: Prefetch | undefined) => Promise<V>,
  land: () => void,
): Promise<V> {
  try {
    return await ask(prefetch);
  } catch (error) {
    if (!(error instanceof PrefetchShed) || prefetch?.wanted !== true) throw error;
    return await ask(undefined);
  } finally {
    land();
  }
}
