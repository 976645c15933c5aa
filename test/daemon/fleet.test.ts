import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { test } from 'node:test';
import { MemcachedServer } from '../support/memcached.ts';
import { waitUntil } from '../support/poll.ts';
import { createTestHome, runChecked, type TestHome } from '../support/processes.ts';
import { assertSameBytes } from '../support/same-bytes.ts';
import { noise, pushSmallImage } from '../support/small-images.ts';

/** What the daemon counts of the fleet, by metric. */
async function fleetCounts(home: TestHome): Promise<Map<string, number>> {
  const socket = ['--silent', '--unix-socket', `${home.home}/run/daemon.sock`];
  const { stdout } = await runChecked('curl', [...socket, 'http://imgstore/metrics'], {});
  const counts = new Map<string, number>();
  for (const [, name, value] of stdout.matchAll(/^imgstore_fleet_([a-z_]+)_total (\d+)$/gm)) {
    counts.set(name!, Number(value));
  }
  return counts;
}

/** Mounts from an empty cache on the worker, reads, and says which tiers had the chunks. */
async function coldRead(home: TestHome, env: Record<string, string>) {
  await home.run(['daemon', 'stop', '--force'], { env });
  rmSync(`${home.home}/cache`, { recursive: true, force: true });
  const dir = home.path('mnt');
  await home.runChecked(['mount', 'small', dir], { env });
  assertSameBytes(readFileSync(`${dir}/srv/noise`), noise);
  const { stdout } = await home.runChecked(['mounts', '--json'], { env });
  const [mount] = JSON.parse(stdout) as [{ hits: Record<string, number> }];
  return { hits: mount!.hits, dir };
}

test('a worker without a chunk takes it from the shared cache, and without that from the store', async context => {
  const servers = await Promise.all(
    Array.from({ length: 5 }, () => MemcachedServer.start(context)),
  );
  const home = createTestHome(context);
  const nodes = servers.map(({ host, port }, i) => `n${i}=${host}:${port}`).join();
  const env = { IMGSTORE_FLEET: nodes };
  await pushSmallImage(home, 'small');
  mkdirSync(home.path('mnt'));

  const first = await coldRead(home, env);
  assert.ok(first.hits['store']! > 0);
  assert.equal(first.hits['l2'], undefined);
  const stored = async () => (await fleetCounts(home)).get('puts')! >= first.hits['store']!;
  await waitUntil('the chunks are in the shared cache', stored);

  const second = await coldRead(home, env);
  assert.equal(second.hits['store'], undefined, 'nothing is asked of the store');
  assert.ok(second.hits['l2']! > 0);

  await servers[0]!.kill();
  const degraded = await coldRead(home, env);
  assert.ok(degraded.hits['l2']! > 0, 'four of five give every chunk');

  const { stdout: status } = await home.runChecked(['daemon', 'status'], { env });
  assert.match(status, /^shared cache: +4\+1 on 5 nodes, (all well|passed over: n0)$/m);

  await servers[1]!.kill();
  const without = await coldRead(home, env);
  assert.ok(without.hits['store']! > 0);
  await home.runChecked(['umount', without.dir], { env });
});

test('a fleet that is written wrongly is refused when the daemon starts', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  mkdirSync(home.path('mnt'));
  const env = { IMGSTORE_FLEET: 'a=127.0.0.1:11211' };
  const { exitCode, stderr } = await home.run(['mount', 'small', 'mnt'], { env });
  assert.notEqual(exitCode, 0);
  assert.match(stderr, /IMGSTORE_FLEET: 1 nodes are too few/);
});
