/**
 * Pushes, reads, verifications, collections and removals over HTTP, through a proxy that does what networks and
 * services in trouble do, kind by kind and all together. IMGSTORE_FAULT_SEED=N runs one seed.
 */

import { after, test } from 'node:test';
import { MemoryS3Process } from '../../bench/memory-s3.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import type { Random } from '../support/random.ts';
import { VirtualClock } from '../support/virtual-clock.ts';
import { runRound, type S3Place } from './s3-round.ts';
import { faults, seededPlan, storeThrough } from './s3-world.ts';
import { rounds } from './world.ts';

Object.assign(process.env, {
  AWS_ACCESS_KEY_ID: 'test',
  AWS_SECRET_ACCESS_KEY: 'test',
  AWS_EC2_METADATA_DISABLED: 'true',
  AWS_CONFIG_FILE: '/dev/null',
  AWS_SHARED_CREDENTIALS_FILE: '/dev/null',
});
const service = await MemoryS3Process.start();
after(() => service[Symbol.asyncDispose]());
let places = 0;

async function newPlace(
  context: { after(fn: () => Promise<void>): void },
  random: Random,
): Promise<S3Place> {
  const proxy = await FaultProxy.start(context, service.endpoint);
  const clock = new VirtualClock();
  const place = `s3://bucket/place-${places++}?region=us-east-1&endpoint=`;
  const store = storeThrough(place + proxy.endpoint, clock, random);
  const bare = storeThrough(place + service.endpoint, new VirtualClock(), random);
  return { proxy, store, bare, clock };
}

for (const [number, kind] of Object.keys(faults).entries()) {
  // Stalls take real time.
  const rate = kind.startsWith('stall') ? 0.08 : 0.25;
  test(`${rate * 100} % of requests: ${kind}`, { timeout: 60_000 }, async context => {
    await rounds(1, 5000 + 10 * number, async random => {
      const place = await newPlace(context, random);
      place.proxy.plan = seededPlan(random.seed, rate, [kind]);
      await runRound(place, random);
    });
  });
}

test('all of it together', { timeout: 60_000 }, async context => {
  await rounds(5, 6000, async random => {
    const place = await newPlace(context, random);
    place.proxy.plan = seededPlan(random.seed, 0.15, Object.keys(faults));
    await runRound(place, random);
  });
});
