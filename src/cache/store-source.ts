/**
 * The lowest tier: the chunks of a root in the object store. What it answers has the size that the
 * recipe states but is not verified; see verified.ts.
 */

import { type ErrorCode, ImgstoreError } from '../base/errors.ts';
import { chunkObjectKey } from '../store/format.ts';
import type { Root } from '../store/root.ts';
import type { ChunkSource } from './chunk-source.ts';

const verifyHint = 'Run imgstore verify on the image; imgstore push --force of it mends the store.';

/**
 * Faults: CORRUPT for an object of another size, UNAVAILABLE if the chunk is absent because the
 * whole store is, otherwise those of the object store.
 */
export function storeSource(root: Root): ChunkSource {
  const tier = 'store';
  return {
    tier,
    async get(id, { sizeBytes, signal }) {
      const aborting = signal && { signal };
      const sealed = await root.chunks
        .get(chunkObjectKey(id), { sizeMaxBytes: sizeBytes, ...aborting })
        .catch((error: unknown) => {
          if (!isCode(error, 'LIMIT')) throw error;
          throw wrongSize(id, `more than the ${sizeBytes} bytes`);
        });
      if (sealed === undefined) {
        if (await root.isPresent(aborting)) return undefined;
        throw new ImgstoreError(
          'UNAVAILABLE',
          `Cannot read chunk ${id} from ${root.chunks.location}: the store is gone`,
          { hint: 'Is it mounted?' },
        );
      }
      if (sealed.length !== sizeBytes) {
        throw wrongSize(id, `${sealed.length} bytes, not the ${sizeBytes}`);
      }
      return { sealed, tier, verified: false };
    },
    put: async () => {},
    drop: async () => {},
    close: async () => {},
  };
}

function isCode(error: unknown, code: ErrorCode): boolean {
  return error instanceof ImgstoreError && error.code === code;
}

function wrongSize(id: string, state: string): ImgstoreError {
  return new ImgstoreError(
    'CORRUPT',
    `Cannot read chunk ${id} from the store: it has ${state} that the recipe states`,
    { hint: verifyHint },
  );
}
