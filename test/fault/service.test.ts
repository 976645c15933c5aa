/**
 * A real S3 service behind a proxy that misbehaves: the library's own operations as in s3.test.ts, and
 * the program from its command line to a mounted disk. Here retries wait as they do for users.
 */

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { after, test } from 'node:test';
import { keysOf } from '../contract/object-store.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { writeOciLayout } from '../support/oci-layout.ts';
import { createTestHome } from '../support/processes.ts';
import { manyBytes } from '../support/pushing.ts';
import { createBucket, startRadosGateway } from '../support/radosgw.ts';
import { Random } from '../support/random.ts';
import { assertSameBytes } from '../support/same-bytes.ts';
import { tarOf } from '../support/tar-builder.ts';
import { VirtualClock } from '../support/virtual-clock.ts';
import { runRound, type S3Place } from './s3-round.ts';
import { faults, seededPlan, storeThrough } from './s3-world.ts';
import { rounds } from './world.ts';

const gateway = await startRadosGateway();
after(() => gateway.close());
Object.assign(process.env, gateway.environment);
await createBucket(gateway, 'faults');
/** Without those that take the CLI's 15 s. */
const quick = Object.keys(faults).filter(kind => !kind.startsWith('stall'));
/** What retries make good, so that no command fails. */
const passing = ['500', '503', '429', 'reset before', 'lost answer', 'done twice', 'delay'];

test('a round of operations against a service that checks what it is sent', async context => {
  await rounds(1, 7000, async random => {
    const proxy = await FaultProxy.start(context, gateway.endpoint);
    const clock = new VirtualClock();
    const url = (endpoint: string) => `s3://faults/round?region=us-east-1&endpoint=${endpoint}`;
    const place: S3Place = {
      proxy,
      clock,
      store: storeThrough(url(proxy.endpoint), clock, random),
      bare: storeThrough(url(gateway.endpoint), new VirtualClock(), random),
    };
    proxy.plan = seededPlan(random.seed, 0.15, quick);
    await runRound(place, random);
  });
});

test('the program pushes, mounts, reads, verifies, removes and collects', {
  timeout: 120_000,
}, async context => {
  const proxy = await FaultProxy.start(context, gateway.endpoint);
  const home = createTestHome(context);
  const file = manyBytes(new Random(5), 2_500_000);
  const tar = tarOf([{ path: 'file', content: file }]);
  writeOciLayout(home.path('img'), { layers: [{ tar, compression: 'none' }], tag: 'v1' });
  const url = (endpoint: string) => `s3://faults/road?region=us-east-1&endpoint=${endpoint}`;
  const store = ['--store', url(proxy.endpoint)];
  const options = { env: gateway.environment };
  proxy.plan = seededPlan(1, 0.15, passing);
  await home.runChecked(['push', 'oci:img:v1', 'app', ...store], options);
  const dir = home.path('mnt');
  mkdirSync(dir);
  await home.runChecked(['mount', 'app', dir, ...store], options);
  // What comes damaged fails the read, at most: the kernel asks once more for itself, and we do too.
  const damaging = seededPlan(2, 0.6, ['damaged answer', 'short and sure of it']);
  let damaged = 0;
  proxy.plan = request => {
    const fault = damaging(request);
    if (fault !== undefined) damaged++;
    return fault;
  };
  for (let tries = 1, isRead = false; !isRead; tries++) {
    assert.ok(tries < 50, 'a read that comes through');
    try {
      assertSameBytes(await readFile(`${dir}/file`), file);
      isRead = true;
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'EIO', `${error}`);
    }
  }
  assert.ok(damaged > 0, 'something came damaged');

  proxy.plan = seededPlan(3, 0.15, passing);
  await home.runChecked(['verify', 'app', ...store], options);
  await home.runChecked(['umount', dir], options);
  await home.runChecked(['rm', 'app', ...store], options);
  await home.runChecked(['gc', '--grace', '0s', ...store], options);
  const { stdout } = await home.runChecked(['ls', '--json', ...store], options);
  assert.doesNotMatch(stdout, /app/);
  const bare = storeThrough(url(gateway.endpoint), new VirtualClock(), new Random(1));
  assert.deepEqual(await keysOf(bare, 'roots'), [], 'nothing is left of it');
});
