/** The key that seals what is pushed, at once. */

import type { Clock, KeySource } from './key-source.ts';
import type { OwnerKey } from './keys.ts';
import { ownerKeys } from './owner-keys.ts';

/** Errors: KEY if there is none and none is to be made, or if it cannot be trusted; IO. */
export async function loadOwnerKey(
  options: KeySource & Clock & { create: boolean },
): Promise<OwnerKey> {
  return ownerKeys(options).current();
}
