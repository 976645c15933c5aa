/**
 * Compares every chunk with its id. It stands around each tier that this worker does not trust, so
 * that nothing unverified is kept by a cache or decoded.
 */

import { type ChunkId, sha256Hex } from '../base/digest.ts';
import { ImgstoreError } from '../base/errors.ts';
import type { ChunkSource, SealedHit } from './chunk-source.ts';

/**
 * A chunk that is not what its id says is dropped and asked for once more, since it may have been
 * damaged on its way; then it is a CORRUPT fault that names the tier.
 */
export function verified(source: ChunkSource): ChunkSource {
  return {
    tier: source.tier,
    async get(id, options) {
      const hit = await source.get(id, options);
      if (hit === undefined || isRight(hit, id)) return hit && { ...hit, verified: true };
      await source.drop(id, hit.tier);
      const again = await source.get(id, options);
      if (again !== undefined && isRight(again, id)) return { ...again, verified: true };
      throw new ImgstoreError(
        'CORRUPT',
        `Cannot use chunk ${id} from tier ${hit.tier}: its SHA-256 is another`,
        {
          hint: 'Run imgstore verify on the image; imgstore verify --repair --from its source mends the store.',
        },
      );
    },
    put: (id, sealed) => source.put(id, sealed),
    drop: (id, tier) => source.drop(id, tier),
    close: () => source.close(),
  };
}

/** 60 µs for 100 KiB on the event loop: a thread would cost as much in waiting. */
function isRight({ sealed, verified }: SealedHit, id: ChunkId): boolean {
  return verified || sha256Hex(sealed) === id;
}
