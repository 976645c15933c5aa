import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync, openSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { errnoOf } from '../../src/base/errors.ts';
import {
  copyDescriptor,
  mount,
  openEvent,
  Poll,
  readOrErrno,
  unmountNow,
} from '../../src/fuse/system-calls.ts';
import { createTestMounts } from '../support/mounts.ts';

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

test('a descriptor that would block says so, and a poll wakes up when it would not', async () => {
  const fd = openEvent();
  const buffer = Buffer.alloc(8);
  assert.equal(readOrErrno(fd, buffer), -11);
  let woken = false;
  const waited = new Promise<void>(resolve => new Poll([fd]).wait(resolve));
  waited.then(() => (woken = true));
  await new Promise(resolve => setTimeout(resolve, 20));
  assert.equal(woken, false);
  writeSync(fd, Buffer.from([5, 0, 0, 0, 0, 0, 0, 0]));
  await waited;
  assert.equal(readOrErrno(fd, buffer), 8);
  assert.equal(buffer[0], 5);
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
