import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { Limiter } from '../../src/base/limiter.ts';

test('no more than the limit run, and who waits is served in order', async () => {
  const limiter = new Limiter(2);
  const events: number[] = [];
  const work = [0, 1, 2, 3, 4].map(i =>
    limiter.run(async () => {
      assert.ok(limiter.running <= 2);
      events.push(i);
      await turn();
    }),
  );
  assert.equal(limiter.waiting, 3);
  await Promise.all(work);
  assert.deepEqual(events, [0, 1, 2, 3, 4]);
  assert.equal(limiter.running, 0);
});

test('who waits leaves when it is aborted, and its place goes on to the next', async () => {
  const limiter = new Limiter(1);
  await limiter.acquireUnlessAborted(undefined);
  const abort = new AbortController();
  const aborted = limiter.acquireUnlessAborted(abort.signal);
  const next = limiter.acquireUnlessAborted(new AbortController().signal);
  const reason = new Error('given up');
  abort.abort(reason);
  await assert.rejects(aborted, error => error === reason);
  await assert.rejects(limiter.acquireUnlessAborted(abort.signal), error => error === reason);
  limiter.release();
  await next;
  assert.equal(limiter.running, 1);
  limiter.release();
  assert.equal(limiter.running, 0);
});
