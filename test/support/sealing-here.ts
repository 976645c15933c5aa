/** A sealer on the test's own thread. */

import { sealChunk } from '../../src/seal/seal.ts';
import type { Sealer } from '../../src/seal/sealer-pool.ts';

export const sealingHere: Sealer = {
  seal: async (plain, key) => sealChunk(plain, key),
  [Symbol.asyncDispose]: async () => {},
};
