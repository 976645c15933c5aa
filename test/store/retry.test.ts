import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ImgstoreError } from '../../src/base/errors.ts';
import { RetryableFault } from '../../src/base/retry.ts';
import { Retrier, type RetryOptions } from '../../src/store/retry.ts';
import { RetryBudget } from '../../src/store/retry-budget.ts';
import { isFault } from '../contract/object-store.ts';
import { Random, seeded } from '../support/random.ts';

/** A clock that only sleeping moves. */
class Clock {
  nowMs = 1000;
  readonly waits: number[] = [];
  readonly options: RetryOptions = {
    now: () => this.nowMs,
    sleep: async (waitMs, signal) => {
      signal?.throwIfAborted();
      this.waits.push(waitMs);
      this.nowMs += waitMs;
    },
  };
}

function busy(retryAfterMs?: number): RetryableFault {
  return new RetryableFault('Cannot read k: SlowDown (503)', { hint: 'Wait.', retryAfterMs });
}

/** Fails so many times, then works. */
function failing(times: number, fault: () => unknown = busy) {
  const work = async () => {
    if (work.calls++ < times) throw fault();
    return 'done';
  };
  work.calls = 0;
  return work;
}

test('waits grow up to their limit, each a random part of it', async () => {
  for (const random of seeded(50)) {
    const clock = new Clock();
    const retrier = new Retrier({
      ...clock.options,
      random: () => random.u32() / 2 ** 32,
      attemptsMax: 8,
      waitFirstMs: 100,
      waitMaxMs: 1000,
    });
    const work = failing(7);
    assert.equal(await retrier.run(work), 'done');
    assert.equal(work.calls, 8);
    const limits = [100, 200, 400, 800, 1000, 1000, 1000];
    assert.equal(clock.waits.length, limits.length);
    clock.waits.forEach((waitMs, i) => {
      assert.ok(waitMs >= 0 && waitMs < limits[i]!, `seed ${random.seed}: wait ${i} is ${waitMs}`);
    });
    assert.notEqual(new Set(clock.waits).size, 1);
  }
});

test('only a RetryableFault is tried again', async () => {
  const clock = new Clock();
  for (const fault of [new Error('a bug'), new ImgstoreError('IO', 'Cannot read k: no')]) {
    const work = failing(1, () => fault);
    await assert.rejects(new Retrier(clock.options).run(work), error => error === fault);
    assert.equal(work.calls, 1);
  }
});

test('after the last attempt the fault says how many there were, and is not tried again', async () => {
  const clock = new Clock();
  const retrier = new Retrier({ ...clock.options, attemptsMax: 3 });
  const work = failing(100);
  const nested = new Retrier(clock.options).run(() => retrier.run(work));
  await assert.rejects(nested, (error: ImgstoreError) => {
    assert.equal(error.hint, 'Wait.');
    return isFault('UNAVAILABLE', /^Cannot read k: SlowDown \(503\) \(3 attempts in \d/)(error);
  });
  assert.equal(work.calls, 3);
});

test('what the service asks to wait is waited, and a little more; too long ends it', async () => {
  const clock = new Clock();
  const retrier = new Retrier(clock.options);
  const bounded = { elapsedMaxMs: 60_000 };
  const work = failing(1, () => busy(20_000));
  assert.equal(await retrier.run(work, bounded), 'done');
  assert.ok(clock.waits[0]! >= 20_000 && clock.waits[0]! <= 20_100);
  const never = failing(100, () => busy(61_000));
  await assert.rejects(retrier.run(never, bounded), isFault('UNAVAILABLE', /1 attempt in 0\.0 s/));
  assert.equal(never.calls, 1);
});

test('no retry begins after the time for all of them', async () => {
  const clock = new Clock();
  const retrier = new Retrier({ ...clock.options, attemptsMax: 1000 });
  const began = clock.nowMs;
  const run = retrier.run(failing(Number.POSITIVE_INFINITY), { elapsedMaxMs: 10_000 });
  await assert.rejects(run, isFault('UNAVAILABLE'));
  assert.ok(clock.nowMs - began <= 10_000);
});

test('an abort ends the waiting with its reason', async () => {
  const abort = new AbortController();
  const reason = new Error('given up');
  const work = failing(100);
  const run = new Retrier({ waitFirstMs: 60_000, waitMaxMs: 60_000 }).run(work, {
    signal: abort.signal,
  });
  setImmediate(() => abort.abort(reason));
  await assert.rejects(run, error => error === reason);
  assert.equal(work.calls, 1);
});

test('of a service that is down, retries are few, however many requests fail', async () => {
  const clock = new Clock();
  const random = new Random(7);
  const budget = new RetryBudget({ tokensMax: 10, tokenEveryMs: 1000, now: () => clock.nowMs });
  let calls = 0;
  const began = clock.nowMs;
  for (let i = 0; i < 200; i++) {
    const retrier = new Retrier({
      ...clock.options,
      budget,
      random: () => random.u32() / 2 ** 32,
      waitMaxMs: 200,
    });
    const fail = async () => {
      calls++;
      throw busy();
    };
    const failed = retrier.run(fail, { elapsedMaxMs: 2000 });
    await assert.rejects(failed, isFault('UNAVAILABLE'));
  }
  const seconds = (clock.nowMs - began) / 1000;
  assert.ok(calls - 200 <= 10 + seconds, `${calls - 200} retries in ${seconds} s`);
  assert.ok(calls - 200 >= 10, 'but there are some');
});

test('what works gives tokens back: a tenth for a first attempt, its own for a retry', () => {
  const budget = new RetryBudget({ tokensMax: 2, tokenEveryMs: 1000, now: () => 0 });
  const takeAll = () => {
    let count = 0;
    while (budget.take()) count++;
    return count;
  };
  assert.equal(takeAll(), 2);
  for (let i = 0; i < 11; i++) budget.succeeded({ retried: false });
  assert.equal(takeAll(), 1);
  budget.succeeded({ retried: true });
  assert.equal(takeAll(), 1);
  for (let i = 0; i < 100; i++) budget.succeeded({ retried: true });
  assert.equal(takeAll(), 2, 'no more than the bucket holds');
});

test('after an outage those who wait go on one after the other, not one a second', async () => {
  const clock = new Clock();
  const budget = new RetryBudget({ tokensMax: 1, tokenEveryMs: 60_000, now: () => clock.nowMs });
  const began = clock.nowMs;
  for (let i = 0; i < 20; i++) {
    const retrier = new Retrier({ ...clock.options, budget });
    assert.equal(await retrier.run(failing(1), { elapsedMaxMs: 1e9 }), 'done');
  }
  assert.ok(clock.nowMs - began < 60_000, `${clock.nowMs - began} ms`);
});

test('who waits hears of it after two seconds, and not at every retry', async () => {
  const clock = new Clock();
  const heard: { message: string; nowMs: number }[] = [];
  const retrier = new Retrier({
    ...clock.options,
    random: () => 0.99,
    attemptsMax: 40,
    budget: new RetryBudget({ now: () => clock.nowMs }),
    onTrouble: message => heard.push({ message, nowMs: clock.nowMs }),
  });
  await retrier.run(failing(3));
  assert.equal(heard.length, 0, 'what passes soon is not told');
  const beganMs = clock.nowMs;
  await retrier.run(failing(12));
  assert.equal(heard[0]!.message, 'Cannot read k: SlowDown (503); trying again');
  assert.ok(heard[0]!.nowMs - beganMs >= 2000);
  assert.ok(heard.length >= 3, `${heard.length} lines`);
  for (const [i, { nowMs }] of heard.slice(1).entries()) {
    assert.ok(nowMs - heard[i]!.nowMs >= 10_000);
  }
});
