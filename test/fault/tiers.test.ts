/** Every fault of every tier under readers who compare each byte; docs/faults.md is its table. */

import { after, suite } from 'node:test';
import { testL1 } from './tiers-l1.ts';
import { testL2 } from './tiers-l2.ts';
import { testL3 } from './tiers-l3.ts';
import { TierService } from './tiers-world.ts';

const service = await TierService.start();
after(() => service.close());

suite('faults of tiers', { concurrency: true }, () => {
  testL3(() => service);
  testL1(() => service);
  testL2(() => service);
});
