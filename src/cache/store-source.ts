/**
 * The lowest tier: the chunks of a store, in whatever root they lie. What it answers has the size
 * that the recipe states but is not verified; see verified.ts.
 */

import { hasCode, ImgstoreError } from '../base/errors.ts';
import { chunkObjectKey } from '../store/format.ts';
import type { Root, Roots } from '../store/roots.ts';
import type { ChunkSource } from './chunk-source.ts';

const verifyHint =
  'Run imgstore verify on the image; imgstore verify --repair --from its source mends the store.';

/**
 * Faults: CORRUPT for an object of another size, UNAVAILABLE if the chunk is absent because the
 * whole store is, otherwise those of the object store.
 */
export function storeSource(roots: Pick<Roots, 'find'>): ChunkSource {
  const tier = 'store';
  return {
    tier,
    async get(id, { sizeBytes, signal }) {
      const options = { sizeMaxBytes: sizeBytes, ...(signal && { signal }) };
      const hit = await roots
        .find(root => root.chunks.get(chunkObjectKey(id), options), `chunk ${id}`)
        .catch((error: unknown) => {
          if (!hasCode(error, ['LIMIT'])) throw error;
          throw wrongSize(id, `more than the ${sizeBytes} bytes`);
        });
      if (hit === undefined) return undefined;
      if (hit.found.length !== sizeBytes) {
        throw wrongSize(id, `${hit.found.length} bytes, not the ${sizeBytes}`);
      }
      return { sealed: hit.found, tier, verified: false };
    },
    put: async () => {},
    drop: async () => {},
    close: async () => {},
  };
}

/** Where chunks are absent, the store itself was there so long ago at most. */
const absenceAgeMaxMs = 1000;

/** The chunks of one root, as if there were no other. Reading them is no alarm. */
export function rootSource(roots: Roots, root: Root): ChunkSource {
  return storeSource({
    async find(look) {
      const found = await look(root);
      if (found !== undefined) return { found, root };
      await roots.view({ ageMaxMs: absenceAgeMaxMs }); // a store that is gone has no chunks either
      return undefined;
    },
  });
}

function wrongSize(id: string, state: string): ImgstoreError {
  return new ImgstoreError(
    'CORRUPT',
    `Cannot read chunk ${id} from the store: it has ${state} that the recipe states`,
    { hint: verifyHint },
  );
}
