/** The server against the kernel of this machine. Needs root. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { MiB } from '../../src/base/limits.ts';
import { listMounts } from '../../src/fuse/mount-table.ts';
import { createTestMounts } from '../support/mounts.ts';
import { type CommandResult, mountsBelow, runChecked, runCommand } from '../support/processes.ts';
import { serve, waitFor } from './served.ts';

const reader = join(import.meta.dirname, 'reader.ts');

function readAll(mode: string, path: string, seed: number): Promise<CommandResult> {
  return runChecked(process.execPath, [reader, mode, path, String(seed)]);
}

function readBlock(path: string, block: number): Promise<CommandResult> {
  const args = [`if=${path}`, 'of=/dev/null', 'bs=4096', `skip=${block}`, 'count=1', 'status=none'];
  return runCommand('dd', args);
}

test('every way of reading gives the right bytes, also all at once', async t => {
  const mounts = createTestMounts(t);
  const served = await serve(mounts, mounts.folder('fuse'));
  // Not a whole number of pages, nor of the largest read.
  const fast = await served.add({ id: 'fast', serial: 1, seed: 1, sizeBytes: 24 * MiB + 1234 });
  const slow = await served.add({ id: 'slow', serial: 2, seed: 2, sizeBytes: 9 * MiB, delayMs: 2 });
  await Promise.all([
    ...['sequential', 'random', 'direct', 'mmap'].map(mode => readAll(mode, fast, 1)),
    ...['sequential', 'mmap'].map(mode => readAll(mode, slow, 2)),
  ]);
  const [fastStats, slowStats] = [await served.stats('fast'), await served.stats('slow')];
  assert.equal(fastStats.failures + slowStats.failures, 0);
  assert.equal(fastStats.waits, 0);
  assert.equal(slowStats.waits, slowStats.reads);
  assert.ok(slowStats.waitMs >= slowStats.waits * 1.5);
  // Opening it again keeps its pages; that somebody else drops them is not likely three times.
  let reads = 0;
  for (let round = 0; round < 3; round++) {
    const before = await served.stats('fast');
    await readAll('sequential', fast, 1);
    reads = (await served.stats('fast')).reads - before.reads;
    if (reads === 0) break;
  }
  assert.equal(reads, 0);
  assert.deepEqual(served.log, []);
});

test('the kernel reads a MiB at a time', async t => {
  const mounts = createTestMounts(t);
  const served = await serve(mounts, mounts.folder('fuse'));
  const path = await served.add({ id: 'm1', serial: 1, sizeBytes: 32 * MiB });
  const table = await listMounts();
  const { device } = table.find(({ mountPoint }) => mountPoint === served.mountPoint)!;
  assert.equal(readFileSync(`/sys/class/bdi/${device}/read_ahead_kb`, 'utf8').trim(), '4096');
  await runChecked('dd', [`if=${path}`, 'of=/dev/null', 'bs=4M', 'iflag=direct']);
  assert.equal((await served.stats('m1')).reads, 32);
  await runChecked('dd', [`if=${path}`, 'of=/dev/null', 'bs=64k']);
  const { reads } = await served.stats('m1');
  assert.ok(reads < 32 + 50, `${reads - 32} buffered reads for 32 MiB`);
});

test('a failing range fails alone, and heals', async t => {
  const mounts = createTestMounts(t);
  const served = await serve(mounts, mounts.folder('fuse'));
  const path = await served.add({ id: 'm1', serial: 1, seed: 3, sizeBytes: 4 * MiB });
  await served.command({ do: 'fail', id: 'm1', fromBytes: 2 * MiB, toBytes: 2 * MiB + 8192 });
  for (const block of [0, 511, 514, 700]) {
    assert.equal((await readBlock(path, block)).exitCode, 0, `block ${block}`);
  }
  for (const block of [512, 513]) {
    const { exitCode, stderr } = await readBlock(path, block);
    assert.equal(exitCode, 1, `block ${block}`);
    assert.match(stderr, /Input\/output error/);
  }
  assert.equal(served.log.length, 1);
  assert.match(served.log[0]!, /error Cannot read from disk m1: Cannot reach the store: it is off/);
  await served.command({ do: 'fail', id: 'm1', fromBytes: 0, toBytes: 0 });
  await readAll('sequential', path, 3);
});

test('a thousand slow reads of one disk do not hold up another', async t => {
  const mounts = createTestMounts(t);
  const served = await serve(mounts, mounts.folder('fuse'));
  const slow = await served.add({
    id: 'slow',
    serial: 1,
    seed: 4,
    sizeBytes: 80 * MiB,
    delayMs: 60_000, // Longer than the test: the end of the server ends them.
    slowFromBytes: 4096,
  });
  const fast = await served.add({ id: 'fast', serial: 2, seed: 5, sizeBytes: 4 * MiB });
  await readAll('advise', slow, 4);
  await waitFor(async () => (await served.stats('slow')).inFlight > 900);
  await Promise.all([readAll('sequential', fast, 5), readAll('direct', fast, 5)]);
  assert.equal((await readBlock(slow, 0)).exitCode, 0);
});

test('it answers when no thread of the pool is free', async t => {
  const mounts = createTestMounts(t);
  const served = await serve(mounts, mounts.folder('fuse'), { env: { UV_THREADPOOL_SIZE: '2' } });
  const fifo = join(mounts.dir, 'fifo');
  await runChecked('mkfifo', [fifo]);
  await served.command({ do: 'exhaust', fifo });
  const path = await served.add({ id: 'm1', serial: 1, seed: 1, sizeBytes: MiB });
  await readAll('sequential', path, 1);
});

test('disks come and go while others are read', async t => {
  const mounts = createTestMounts(t);
  const served = await serve(mounts, mounts.folder('fuse'));
  const steady = await served.add({ id: 'steady', serial: 1, seed: 1, sizeBytes: 16 * MiB });
  const busy = Promise.all(['random', 'direct', 'mmap'].map(mode => readAll(mode, steady, 1)));
  for (let round = 0; round < 8; round++) {
    // The same name each time, with other bytes: neither names nor pages may outlive it.
    const seed = 10 + round;
    const path = await served.add({ id: 'guest', serial: seed, seed, sizeBytes: MiB + seed });
    await readAll('sequential', path, seed);
    const read = runCommand('dd', [`if=${path}`, 'of=/dev/null', 'bs=1M', 'status=none']);
    await served.command({ do: 'remove', id: 'guest' });
    await read;
    assert.equal((await runCommand('stat', [path])).exitCode, 1);
    const { stdout } = await runChecked('ls', [served.mountPoint]);
    assert.equal(stdout.trim(), 'steady');
  }
  await busy;
  await served.command({ do: 'remove', id: 'never there' });
  assert.deepEqual(served.log, []);
});

test('what is under way when a disk is removed is still answered', async t => {
  const mounts = createTestMounts(t);
  const served = await serve(mounts, mounts.folder('fuse'));
  const path = await served.add({ id: 'm1', serial: 1, sizeBytes: MiB, delayMs: 300 });
  const read = readBlock(path, 0);
  await waitFor(async () => (await served.stats('m1')).inFlight > 0);
  await served.command({ do: 'remove', id: 'm1' });
  assert.equal((await read).exitCode, 0);
});

test('nothing can be written', async t => {
  const mounts = createTestMounts(t);
  const served = await serve(mounts, mounts.folder('fuse'));
  const path = await served.add({ id: 'm1', serial: 1, sizeBytes: MiB });
  for (const command of [
    ['touch', path],
    ['rm', path],
    ['mkdir', join(served.mountPoint, 'x')],
  ]) {
    const { exitCode, stderr } = await runCommand(command[0]!, command.slice(1));
    assert.equal(exitCode, 1);
    assert.match(stderr, /Read-only file system/);
  }
});

test('close waits for nobody, fails while in use, and leaves nothing', async t => {
  const mounts = createTestMounts(t);
  const served = await serve(mounts, mounts.folder('fuse'));
  const path = await served.add({ id: 'm1', serial: 1, seed: 6, sizeBytes: MiB });
  const holder = spawn('sh', ['-c', 'exec 3<"$0"; echo held; exec sleep 60', path], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  await once(holder.stdout, 'data');
  await assert.rejects(served.command({ do: 'close' }), /BUSY: Cannot unmount .* in use/);
  await readAll('sequential', path, 6);
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  await served.command({ do: 'close' });
  await served.ended;
  assert.deepEqual(mountsBelow(mounts.dir), []);
  const { pid } = served.child;
  const links = readdirSync(`/proc/${pid}/fd`).map(fd => linkOf(`/proc/${pid}/fd/${fd}`));
  assert.equal(links.includes('/dev/fuse'), false);
  assert.deepEqual(served.log, []);
});

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return ''; // Closed since.
  }
}

test('unmounted by somebody else, the server ends', async t => {
  const mounts = createTestMounts(t);
  const served = await serve(mounts, mounts.folder('fuse'));
  await runChecked('umount', [served.mountPoint]);
  await served.ended;
  await served.command({ do: 'close' });
});

for (const [how, exitCode] of [
  ['exit', 7],
  ['throw', 1],
] as const) {
  test(`a server that ends by ${how} is gone, and its reads with it`, async t => {
    const mounts = createTestMounts(t);
    const served = await serve(mounts, mounts.folder('fuse'), { silent: true });
    const path = await served.add({ id: 'm1', serial: 1, sizeBytes: MiB, delayMs: 60_000 });
    const read = readBlock(path, 0);
    await waitFor(async () => (await served.stats('m1')).inFlight > 0);
    const exited = once(served.child, 'exit');
    await served.command({ do: how });
    assert.deepEqual(await exited, [exitCode, null]);
    assert.equal((await read).exitCode, 1);
  });
}
