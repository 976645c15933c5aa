/** The whole road by the command line over S3; run by s3-store.test.ts. */

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openStore } from '../../src/store/open-store.ts';
import { keysOf } from '../contract/object-store.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { writeOciLayout } from '../support/oci-layout.ts';
import { createTestHome } from '../support/processes.ts';
import { manyBytes } from '../support/pushing.ts';
import { Random } from '../support/random.ts';
import { tarOf } from '../support/tar-builder.ts';
import type { S3Service } from './s3-faults.ts';

export function testRoad(service: S3Service): void {
  test('an image is pushed, mounted, verified and removed over S3', async context => {
    const proxy = await FaultProxy.start(context, service.endpoint);
    const home = createTestHome(context);
    const large = manyBytes(new Random(5), 3_000_000);
    const tar = tarOf([
      { path: 'etc/hello', content: Buffer.from('hello from S3') },
      { path: 'large', content: large },
    ]);
    writeOciLayout(home.path('img'), { layers: [{ tar, compression: 'gzip' }], tag: 'v1' });
    const store = ['--store', service.newUrl(proxy.endpoint)];
    const options = { env: service.environment };
    await home.runChecked(['push', 'oci:img:v1', 'hello', ...store], options);
    proxy.take();
    await home.runChecked(['push', 'oci:img:v1', 'hello', ...store], options);
    const again = proxy.take();
    assert.ok(again.length <= 10, `an unchanged image again: ${again.join(', ')}`);

    const dir = home.path('mnt');
    mkdirSync(dir);
    await home.runChecked(['mount', 'hello', dir, ...store], options);
    // Not synchronously: the daemon's requests come through this process.
    assert.equal(await readFile(`${dir}/etc/hello`, 'utf8'), 'hello from S3');
    assert.ok((await readFile(`${dir}/large`)).equals(large));
    await home.runChecked(['verify', 'hello', ...store], options);
    await home.runChecked(['umount', dir], options);
    await home.runChecked(['rm', 'hello', ...store], options);
    const { stdout } = await home.runChecked(['ls', '--json', ...store], options);
    assert.doesNotMatch(stdout, /hello/);

    const denied = { env: { ...service.environment, AWS_SECRET_ACCESS_KEY: 'wr0ng' } };
    const { exitCode, stderr } = await home.run(['ls', ...store], denied);
    assert.equal(exitCode, 1);
    assert.match(stderr, /^imgstore: Cannot .* access denied, SignatureDoesNotMatch/);
    assert.doesNotMatch(stderr, /wr0ng/);
  });

  test('what a removed image took comes back, by copies that the service makes', async context => {
    const proxy = await FaultProxy.start(context, service.endpoint);
    const home = createTestHome(context);
    const store = ['--store', service.newUrl(proxy.endpoint)];
    const options = { env: service.environment };
    const shared = { path: 'shared', content: manyBytes(new Random(8), 2_000_000) };
    for (const [name, seed] of [
      ['kept', 9],
      ['gone', 10],
    ] as const) {
      const own = { path: 'own', content: manyBytes(new Random(seed), 2_000_000) };
      const layers = [{ tar: tarOf([shared, own]), compression: 'none' as const }];
      writeOciLayout(home.path(name), { layers, tag: 'v1' });
      await home.runChecked(['push', `oci:${name}:v1`, name, ...store], options);
    }
    await home.runChecked(['rm', 'gone', ...store], options);
    proxy.take();
    const gc = ['gc', '--grace', '0s', '--json', ...store];
    const { steps } = JSON.parse((await home.runChecked(gc, options)).stdout);
    assert.deepEqual(
      steps.map((step: { do: string }) => step.do),
      ['open', 'copy', 'expire', 'delete'],
    );
    const copies = proxy.requests.filter(
      ({ method, path }) => method === 'PUT' && path.includes('/roots/r0002/'),
    );
    assert.equal(copies.length, steps[1].usage.chunks + 1);
    const keys = await keysOf(await openStore(store[1]!), '');
    assert.deepEqual(
      keys.filter(key => key.includes('r0001') || key.startsWith('pushes/')),
      [],
    );
    await home.runChecked(['verify', 'kept', ...store], options);
    const again = JSON.parse((await home.runChecked(gc, options)).stdout);
    assert.deepEqual(again.steps, []);
  });

  test('what a store in S3 lost is found, and made again from its source', async context => {
    const proxy = await FaultProxy.start(context, service.endpoint);
    const home = createTestHome(context);
    const tar = tarOf([{ path: 'large', content: manyBytes(new Random(7), 6_000_000) }]);
    writeOciLayout(home.path('img'), { layers: [{ tar, compression: 'none' }], tag: 'v1' });
    const url = service.newUrl(proxy.endpoint);
    const options = { env: service.environment };
    const verify = (...args: string[]) => home.run(['verify', '--store', url, ...args], options);
    await home.runChecked(['push', 'oci:img:v1', 'hello', '--store', url], options);
    assert.match(
      (await verify('--scrub')).stdout,
      /; 1 recipe, 1 name, 1 root: nothing is wrong$/m,
    );

    const store = await openStore(url);
    const chunks = await keysOf(store, 'roots/r0001/chunks');
    await store.remove(chunks[0]!);
    await store.put(chunks[1]!, Buffer.from('something else'), { ifAbsent: false });
    for (const args of [['hello'], ['--scrub']]) {
      const { exitCode, stdout } = await verify(...args);
      assert.equal(exitCode, 1);
      for (const key of chunks.slice(0, 2)) assert.match(stdout, new RegExp(key.slice(-64)));
      assert.match(stdout, /2 faults/);
    }
    proxy.take();
    const repair = await verify('hello', '--repair', '--from', 'oci:img:v1');
    assert.equal(repair.exitCode, 0, repair.stderr);
    const isPut = ({ method, path }: { method: string; path: string }) =>
      method === 'PUT' && path.includes('/roots/');
    assert.equal(proxy.requests.filter(isPut).length, 2);
    assert.equal((await verify('--scrub', '--quiet')).exitCode, 0);

    // All of them at once, and as many as the bound says; an abort waits for none of them.
    proxy.plan = ({ path }) => (path.includes('/chunks/') ? { do: 'stall' } : undefined);
    const args = ['verify', 'hello', '--store', url];
    const { child, result } = home.start(args, options);
    const asked = () => proxy.requests.filter(({ path }) => path.includes('/chunks/')).length;
    proxy.take();
    while (asked() < chunks.length) await sleep(20);
    const began = performance.now();
    child.kill('SIGINT');
    assert.match((await result).stderr, /Stopped by SIGINT/);
    assert.ok(performance.now() - began < 5000, 'sooner than the requests time out');
  });

  test('Ctrl-C ends a push whose chunks nobody answers for, and gives up its root', async context => {
    const proxy = await FaultProxy.start(context, service.endpoint);
    const home = createTestHome(context);
    const tar = tarOf([{ path: 'large', content: manyBytes(new Random(6), 3_000_000) }]);
    writeOciLayout(home.path('img'), { layers: [{ tar, compression: 'none' }], tag: 'v1' });
    const isChunk = ({ path }: { path: string }) => path.includes('/chunks/');
    proxy.plan = request => (isChunk(request) ? { do: 'stall' } : undefined);
    const args = ['push', 'oci:img:v1', 'hello', '--store', service.newUrl(proxy.endpoint)];
    const { child, result } = home.start(args, { env: service.environment });
    while (!proxy.requests.some(isChunk)) await sleep(20);
    const began = performance.now();
    child.kill('SIGINT');
    const { exitCode, stderr } = await result;
    assert.ok(performance.now() - began < 5000, 'sooner than the request times out');
    assert.equal(exitCode, 1);
    assert.match(stderr, /Stopped by SIGINT/);
    const { method, path } = proxy.requests.at(-1)!;
    assert.equal(method, 'DELETE');
    assert.match(path, /\/pushes\/r0001\//);
  });

  test('mounts that are given up, or taken down by force, end their requests', async context => {
    const proxy = await FaultProxy.start(context, service.endpoint);
    const home = createTestHome(context);
    const tar = tarOf([{ path: 'large', content: manyBytes(new Random(7), 3_000_000) }]);
    writeOciLayout(home.path('img'), { layers: [{ tar, compression: 'none' }], tag: 'v1' });
    const store = ['--store', service.newUrl(proxy.endpoint)];
    const options = { env: service.environment };
    await home.runChecked(['push', 'oci:img:v1', 'hello', ...store], options);
    await home.runChecked(['daemon', 'start'], options);
    const dir = home.path('mnt');
    mkdirSync(dir);
    const isChunk = ({ path }: { path: string }) => path.includes('/chunks/');
    const silence: FaultProxy['plan'] = request => (isChunk(request) ? { do: 'stall' } : undefined);
    const timed = async (work: () => Promise<unknown>) => {
      const began = performance.now();
      await work();
      assert.ok(performance.now() - began < 5000, 'sooner than the requests time out');
    };

    proxy.plan = silence;
    proxy.take();
    const { child, result } = home.start(['mount', 'hello', dir, ...store], options);
    while (!proxy.requests.some(isChunk)) await sleep(20);
    await timed(async () => {
      child.kill('SIGINT');
      assert.equal((await result).exitCode, 1);
    });

    proxy.plan = () => undefined;
    await home.runChecked(['mount', 'hello', dir, ...store], options);
    proxy.plan = silence;
    proxy.take();
    const reading = readFile(`${dir}/large`);
    reading.catch(() => {});
    while (!proxy.requests.some(isChunk)) await sleep(20);
    await timed(async () => {
      await home.runChecked(['daemon', 'stop', '--force'], options);
      await assert.rejects(reading, { code: 'EIO' });
    });
  });
}
