/** The part of a store below a prefix, as a store of its own. */

import { checkKeyPrefix, checkObjectKey } from './object-key.ts';
import type { ObjectStore } from './object-store.ts';

export function scoped(store: ObjectStore, prefix: string): ObjectStore {
  checkObjectKey(prefix);
  const inner = (key: string): string => {
    // Before it is joined: `..` must not lead out of the scope, and '' is not the prefix itself.
    checkObjectKey(key);
    return `${prefix}/${key}`;
  };
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
      checkKeyPrefix(below);
      for await (const found of store.list(below === '' ? prefix : inner(below), options)) {
        yield { ...found, key: found.key.slice(prefix.length + 1) };
      }
    },
  };
}
