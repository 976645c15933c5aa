import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { inParallel } from '../../src/base/in-parallel.ts';
import { seeded } from '../support/random.ts';

const noBytes = { bytesMax: 0, bytesOf: () => 0 };

async function* slowly<V>(values: readonly V[]): AsyncGenerator<V> {
  for (const value of values) {
    await turn();
    yield value;
  }
}

/** Rejects with the signal's reason when that is aborted. */
function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

test('every item once, never more at once nor more bytes than allowed', async () => {
  for (const random of seeded(30)) {
    const sizes = Array.from({ length: random.below(60) }, () => random.between(0, 30));
    const bounds = { atOnce: random.between(1, 8), bytesMax: random.between(1, 40) };
    const items = sizes.map((sizeBytes, number) => ({ sizeBytes, number }));
    const done: number[] = [];
    let running = 0;
    let runningBytes = 0;
    let runningMax = 0;
    const source = random.chance(0.5) ? items : slowly(items);
    const options = { ...bounds, bytesOf: (item: { sizeBytes: number }) => item.sizeBytes };
    await inParallel(source, options, async ({ sizeBytes, number }) => {
      running++;
      runningBytes += sizeBytes;
      runningMax = Math.max(runningMax, running);
      assert.ok(running <= bounds.atOnce, `seed ${random.seed}`);
      assert.ok(running === 1 || runningBytes <= bounds.bytesMax, `seed ${random.seed}`);
      for (let turns = random.below(4); turns > 0; turns--) await turn();
      running--;
      runningBytes -= sizeBytes;
      done.push(number);
    });
    const expected = items.map(({ number }) => number);
    assert.deepEqual(
      done.sort((a, b) => a - b),
      expected,
      `seed ${random.seed}`,
    );
    if (bounds.atOnce > 1 && source === items && items.length > 20 && bounds.bytesMax > 35) {
      assert.ok(runningMax > 1, `seed ${random.seed}: it does run in parallel`);
    }
  }
});

test('the first failure ends it: the others are aborted and waited for', async () => {
  const failure = new Error('first');
  const begun: number[] = [];
  let ended = 0;
  const work = inParallel([0, 1, 2, 3, 4, 5], { atOnce: 3, ...noBytes }, async (item, signal) => {
    begun.push(item);
    try {
      if (item !== 1) return await aborted(signal);
      await turn();
      throw failure;
    } finally {
      ended++;
    }
  });
  await assert.rejects(work, error => error === failure);
  assert.deepEqual(begun, [0, 1, 2]);
  assert.equal(ended, 3);
});

test('a source that fails, and a signal', async () => {
  const failure = new Error('of the list');
  async function* failing(): AsyncGenerator<number> {
    yield 1;
    throw failure;
  }
  let ended = false;
  const waiting = inParallel(failing(), { atOnce: 2, ...noBytes }, async (_, signal) => {
    await assert.rejects(aborted(signal), error => error === failure);
    ended = true;
  });
  await assert.rejects(waiting, error => error === failure);
  assert.ok(ended);

  const controller = new AbortController();
  const reason = new Error('stopped');
  let count = 0;
  const options = { atOnce: 2, ...noBytes, signal: controller.signal };
  const stopped = inParallel(slowly([1, 2, 3, 4]), options, async item => {
    count++;
    if (item === 2) controller.abort(reason);
  });
  await assert.rejects(stopped, error => error === reason);
  assert.equal(count, 2);
  await assert.rejects(
    inParallel([1], options, async () => {}),
    error => error === reason,
  );
});

test('nothing to do', async () => {
  await inParallel([], { atOnce: 1, ...noBytes }, async () => assert.fail());
});
