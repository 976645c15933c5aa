/** The part of a store below a prefix, as a store of its own. */

import { checkObjectKey } from './object-key.ts';
import type { ObjectStore } from './object-store.ts';

export function scoped(store: ObjectStore, prefix: string): ObjectStore {
  checkObjectKey(prefix);
  // The store refuses `..` and empty parts wherever they stand: nothing leads out of the scope.
  const inner = (key: string) => `${prefix}/${key}`;
  return {
    location: `${store.location}/${prefix}`,
    get: async (key, options) => store.get(inner(key), options),
    put: async (key, bytes, options) => store.put(inner(key), bytes, options),
    remove: async (key, options) => store.remove(inner(key), options),
    async stat(key, options) {
      const found = await store.stat(inner(key), options);
      return found && { ...found, key };
    },
    async *list(below, options) {
      for await (const found of store.list(below === '' ? prefix : inner(below), options)) {
        yield { ...found, key: found.key.slice(prefix.length + 1) };
      }
    },
  };
}
