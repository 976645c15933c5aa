import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync, openSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { errnoOf } from '../../src/base/errors.ts';
import {
  copyDescriptor,
  mount,
  readOrErrno,
  signalWhenReadable,
  unmountNow,
} from '../../src/fuse/system-calls.ts';
import { createTestMounts } from '../support/mounts.ts';
import { runChecked } from '../support/processes.ts';

test('errnos of calls on other threads are their own', async () => {
  const missing = { source: 'none', target: '/nonexistent', type: 'tmpfs', flags: 0 };
  const unknown = { ...missing, target: '/proc', type: 'no such type' };
  const results = await Promise.allSettled([
    mount(missing),
    mount(unknown),
    unmountNow('/proc/self/status', { detach: false }),
    mount(missing),
  ]);
  const codes = results.map(result => result.status === 'rejected' && errnoOf(result.reason));
  assert.deepEqual(codes, ['ENOENT', 'ENODEV', 'EINVAL', 'ENOENT']);
});

test('a signal tells when there is something to read, and reading never blocks', async t => {
  const mounts = createTestMounts(t);
  const fifo = join(mounts.dir, 'fifo');
  await runChecked('mkfifo', [fifo]);
  const fd = openSync(fifo, 'r+');
  let signals = 0;
  const onSignal = (): number => ++signals;
  process.on('SIGIO', onSignal);
  signalWhenReadable(fd, true);
  const buffer = Buffer.alloc(8);
  assert.equal(readOrErrno(fd, buffer), -11);
  await runChecked('sh', ['-c', 'echo 12345 > "$0"', fifo]);
  while (signals === 0) await new Promise(resolve => setTimeout(resolve, 5));
  assert.equal(readOrErrno(fd, buffer), 6);
  assert.equal(buffer.toString('latin1', 0, 6), '12345\n');
  signalWhenReadable(fd, false);
  await new Promise(resolve => setTimeout(resolve, 20)); // For those on their way.
  const before = signals;
  await runChecked('sh', ['-c', 'echo 12345 > "$0"', fifo]);
  await new Promise(resolve => setTimeout(resolve, 20));
  assert.equal(signals, before);
  process.off('SIGIO', onSignal);
  closeSync(fd);
  assert.equal(readOrErrno(fd, buffer), -9);
});

test('a descriptor of another process is copied, and outlives it', async t => {
  const mounts = createTestMounts(t);
  const file = join(mounts.dir, 'file');
  writeFileSync(file, 'held');
  const held = openSync(file, 'r');
  const child = mounts.fork(join(import.meta.dirname, 'holder.ts'), [], { descriptor: held });
  closeSync(held);
  await once(child, 'message');
  const fd = copyDescriptor({ pid: child.pid!, fd: 4 });
  assert.throws(() => copyDescriptor({ pid: child.pid!, fd: 999 }), { code: 'EBADF' });
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.throws(() => copyDescriptor({ pid: child.pid!, fd: 4 }), { code: 'ESRCH' });
  const buffer = Buffer.alloc(4);
  readSync(fd, buffer, 0, 4, 0);
  assert.equal(buffer.toString(), 'held');
  closeSync(fd);
});
