/** The store's own clock, since markers and leases have its times. */

import { ImgstoreError } from '../base/errors.ts';
import { clockKey } from '../store/format.ts';
import type { ObjectStore } from '../store/object-store.ts';

/** Now, or a moment ago. Errors: those of the store. */
export async function storeClock(
  store: ObjectStore,
  signal: AbortSignal | undefined,
): Promise<Date> {
  const aborting = signal && { signal };
  await store.put(clockKey, new Uint8Array(), { ifAbsent: false, ...aborting });
  const found = await store.stat(clockKey, aborting);
  if (found !== undefined) return found.modified;
  throw new ImgstoreError(
    'UNAVAILABLE',
    `Cannot tell the time of ${store.location}: ${clockKey} is gone`,
    {
      hint: 'Run it again.',
    },
  );
}
