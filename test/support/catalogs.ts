/** Catalogs of tests: on any store, under any keys, committing without a lease. */

import { Catalog, type CommitOptions, type Committed } from '../../src/catalog/catalog.ts';
import type { OwnerKey } from '../../src/keys/keys.ts';
import type { OwnerKeys } from '../../src/keys/owner-keys.ts';
import type { ImageName } from '../../src/recipe/name.ts';
import type { Recipe } from '../../src/recipe/recipe.ts';
import type { CopyingStore } from '../../src/store/copying-store.ts';
import type { ObjectStore } from '../../src/store/object-store.ts';
import { Roots, type RootsView } from '../../src/store/roots.ts';
import { ownerKey } from './recipes.ts';

/** The first is the current one. */
export function heldKeys(...keys: [OwnerKey, ...OwnerKey[]]): OwnerKeys {
  return {
    current: async () => keys[0],
    find: async id => keys.find(key => key.id === id),
  };
}

/** Makes the store when it is first used, if it is not there. */
export function rootsOf(store: ObjectStore & CopyingStore): Roots {
  return new CreatingRoots(store);
}

class CreatingRoots extends Roots {
  #creating: Promise<void> | undefined;

  override async view(options?: { ageMaxMs?: number }): Promise<RootsView> {
    if (this.#creating === undefined) {
      this.#creating = Promise.resolve();
      this.#creating = this.create();
    }
    await this.#creating;
    return super.view(options);
  }
}

export class TestCatalog extends Catalog {
  readonly roots: Roots;

  constructor(on: (ObjectStore & CopyingStore) | Roots, ...keys: OwnerKey[]) {
    const roots = on instanceof Roots ? on : rootsOf(on);
    const [first = ownerKey, ...others] = keys;
    super(roots, heldKeys(first, ...others));
    this.roots = roots;
  }

  /** To the active root, which is not looked at again. */
  override async commit(
    name: ImageName,
    recipe: Recipe,
    options: Omit<CommitOptions, 'target'> & Partial<Pick<CommitOptions, 'target'>>,
  ): Promise<Committed> {
    const target = { root: await this.roots.active(), check: async () => {} };
    return super.commit(name, recipe, { target, ...options });
  }
}
