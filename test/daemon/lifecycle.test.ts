/** The daemon's life: started once, stopped in order, killed and recovered from. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { MemoryS3Process } from '../../bench/memory-s3.ts';
import { waitUntil } from '../support/poll.ts';
import { createTestHome, mountsBelow, type TestHome } from '../support/processes.ts';
import { pushSmallImage, writeSmallImage } from '../support/small-images.ts';

async function daemonPid(home: TestHome): Promise<number> {
  const { stdout } = await home.runChecked(['daemon', 'status', '--json']);
  return (JSON.parse(stdout) as { pid: number }).pid;
}

function runs(pid: number): boolean {
  return existsSync(`/proc/${pid}/environ`);
}

/** Zombies have an empty environment, but whoever is their parent is not ours to wait for. */
async function untilGone(pid: number): Promise<void> {
  await waitUntil(`process ${pid} has ended`, () => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8') === '';
    } catch {
      return true;
    }
  });
}

async function mountedHome(
  context: { after(fn: () => Promise<void>): void },
  options: string[] = [],
): Promise<{ home: TestHome; dir: string }> {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  const dir = home.path('mnt');
  mkdirSync(dir);
  await home.runChecked(['mount', ...options, 'small', dir]);
  return { home, dir };
}

test('start, status, stop; a second start and stop change nothing', async context => {
  const home = createTestHome(context);
  const none = await home.run(['daemon', 'status']);
  assert.deepEqual([none.exitCode, none.stdout], [1, 'No daemon runs\n']);
  await home.runChecked(['daemon', 'start']);
  const pid = await daemonPid(home);
  await home.runChecked(['daemon', 'start']);
  assert.equal(await daemonPid(home), pid);
  const here = await home.runChecked(['daemon', 'run']);
  assert.equal(here.stdout, 'Another daemon serves this home already\n');
  assert.equal(statSync(`${home.home}/run/daemon.sock`).mode & 0o777, 0o600);
  await home.runChecked(['daemon', 'stop']);
  await untilGone(pid);
  assert.equal(existsSync(`${home.home}/run/daemon.sock`), false);
  assert.deepEqual(mountsBelow(home.dir), []);
  const again = await home.runChecked(['daemon', 'stop']);
  assert.equal(again.stdout, 'No daemon runs\n');
});

test('commands that start a daemon at once end with one daemon', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  const dirs = [1, 2, 3, 4].map(i => home.path(`mnt-${i}`));
  for (const dir of dirs) mkdirSync(dir);
  await Promise.all(dirs.map(dir => home.runChecked(['mount', 'small', dir])));
  const log = readFileSync(`${home.home}/run/daemon.log`, 'utf8');
  assert.equal(log.match(/ serves /g)?.length, 1, log);
  for (const dir of dirs) assert.ok(existsSync(`${dir}/bin/busybox`));
});

test('a daemon started by a mount ends by itself, one that was started stays', async context => {
  const { home, dir } = await mountedHome(context);
  const staying = createTestHome(context);
  await staying.runChecked(['daemon', 'start']);
  const stayingPid = await daemonPid(staying);
  const pid = await daemonPid(home);
  await home.runChecked(['umount', dir]);
  const unmountedMs = performance.now();
  await untilGone(pid);
  const tookMs = performance.now() - unmountedMs;
  assert.ok(tookMs > 7000, `it waited for more mounts: ${tookMs} ms`);
  assert.deepEqual(mountsBelow(home.dir), []);
  assert.equal((await home.run(['daemon', 'status'])).exitCode, 1);
  assert.ok(runs(stayingPid));
});

test('stop refuses while something is mounted, and --force takes it along, used or not', async context => {
  const { home, dir } = await mountedHome(context, ['--rw']);
  const refused = await home.run(['daemon', 'stop']);
  assert.equal(refused.exitCode, 1);
  assert.match(refused.stderr, /^imgstore: Cannot stop the daemon: 1 mounted\. [^\n]+\n$/);
  assert.ok(existsSync(`${dir}/bin/busybox`));
  const user = spawn('cat', [], { cwd: dir, stdio: ['pipe', 'ignore', 'ignore'] });
  context.after(() => void user.kill('SIGKILL'));
  await once(user, 'spawn');
  const pid = await daemonPid(home);
  await home.runChecked(['daemon', 'stop', '--force']);
  await untilGone(pid);
  assert.deepEqual(mountsBelow(home.dir), []);
  await home.runChecked(['mount', 'small', dir]); // and the next one has no trouble with the rest
  await home.runChecked(['umount', dir]);
});

test('stop --force does not wait for reads of a silent store, though who read is gone', async context => {
  const service = await MemoryS3Process.start();
  context.after(async () => {
    process.kill(service.pid, 'SIGCONT');
    await service[Symbol.asyncDispose]();
  });
  const env = {
    IMGSTORE_STORE: `s3://imgstore/stop?endpoint=${encodeURIComponent(service.endpoint)}`,
    AWS_ACCESS_KEY_ID: 'test',
    AWS_SECRET_ACCESS_KEY: 'test',
    AWS_REGION: 'us-east-1',
  };
  const home = createTestHome(context);
  const source = writeSmallImage(home, 'small');
  await home.runChecked(['push', '--quiet', source, 'small'], { env });
  mkdirSync(home.path('mnt'));
  await home.runChecked(['mount', 'small', home.path('mnt')], { env });
  process.kill(service.pid, 'SIGSTOP');
  // Its open file would keep the kernel from waiting for its read when it unmounts.
  const reader = spawn('cat', [home.path('mnt', 'srv', 'noise')], { stdio: 'ignore' });
  await sleep(500);
  assert.equal(reader.exitCode, null);
  const ended = once(reader, 'exit');
  reader.kill('SIGKILL');
  await ended;
  const startedMs = performance.now();
  await home.runChecked(['daemon', 'stop', '--force'], { env });
  const stopMs = performance.now() - startedMs;
  assert.ok(stopMs < 5000, `it took ${stopMs} ms; the store is waited for 14 s or more`);
  assert.deepEqual(mountsBelow(home.dir), []);
});

test('SIGTERM ends it in order', async context => {
  const { home } = await mountedHome(context);
  const pid = await daemonPid(home);
  process.kill(pid, 'SIGTERM');
  await untilGone(pid);
  assert.deepEqual(mountsBelow(home.dir), []);
  assert.match(readFileSync(`${home.home}/run/daemon.log`, 'utf8'), /has ended\n$/);
});

test('a command that comes while it ends gets the next one', async context => {
  const { home, dir } = await mountedHome(context);
  const other = home.path('other');
  mkdirSync(other);
  for (let round = 0; round < 3; round++) {
    const [, mount] = await Promise.all([
      home.runChecked(['daemon', 'stop', '--force']),
      home.run(['mount', 'small', other]),
    ]);
    // It came before the end and was unmounted, or after it; refused it was not.
    assert.equal(mount.exitCode, 0, mount.stderr);
    await home.run(['umount', other]);
    await home.runChecked(['mount', 'small', dir]);
  }
});

test('killed: umount clears its mounts, and so does the next daemon', async context => {
  for (const options of [['--rw'], ['--as', 'disk']]) {
    const { home, dir } = await mountedHome(context, options);
    process.kill(await daemonPid(home), 'SIGKILL');
    await home.runChecked(['umount', dir]);
    const fuse = `${home.home}/run/fuse`;
    assert.deepEqual(
      mountsBelow(home.dir).filter(point => point !== fuse),
      [],
    );
    await home.runChecked(['mount', ...options, 'small', dir]);
    const pid = await daemonPid(home);
    process.kill(pid, 'SIGKILL');
    await untilGone(pid);
    await home.runChecked(['mount', ...options, 'small', dir]);
    assert.equal(existsSync(`${dir}/${options.includes('disk') ? 'disk' : 'bin'}`), true);
    await home.runChecked(['umount', dir]);
    await home.close();
  }
});

test('debris in the mount table is cleared, and a broken record does not stop the start', async context => {
  const home = createTestHome(context);
  const table = `${home.home}/run/mounts`;
  for (const name of ['m1', 'm2', 'm3/upper']) mkdirSync(`${table}/${name}`, { recursive: true });
  writeFileSync(`${table}/m2/mount.json`, '{"form');
  writeFileSync(`${table}/serial.9`, '9\n');
  writeFileSync(`${table}/serial`, 'nonsense');
  await home.runChecked(['daemon', 'start']);
  assert.deepEqual(
    ['m1', 'm2', 'm3', 'serial.9'].filter(name => existsSync(`${table}/${name}`)),
    [],
  );
});

test('a home whose path is too long for a socket is refused in one line', async context => {
  const home = createTestHome(context);
  const long = home.path('x'.repeat(100));
  for (const args of [['mounts'], ['daemon', 'start'], ['umount', '/mnt']]) {
    const result = await home.run([...args, '--home', long]);
    assert.equal(result.exitCode, 2);
    assert.match(
      result.stderr,
      /^imgstore: Cannot use the home [^\n]*: its path is too long[^\n]*\n$/,
    );
  }
});
