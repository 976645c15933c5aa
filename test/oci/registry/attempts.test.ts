import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseRetryAfter } from '../../../src/base/retry.ts';
import { Attempts } from '../../../src/oci/registry/attempts.ts';
import { TransientFault } from '../../../src/oci/registry/faults.ts';
import { fastRules } from './odd-registry.ts';

const signal = new AbortController().signal;

/** How often `work` is called until it has thrown all of these. */
async function calls(faults: readonly unknown[], rules = fastRules): Promise<number> {
  let count = 0;
  const work = async () => {
    if (count < faults.length) throw faults[count++];
  };
  await new Attempts(rules)
    .run(work, signal)
    .catch(error => assert.equal(error, faults[count - 1]));
  return count;
}

test('only transient faults are tried again, so many times in a row', async () => {
  const transient = () => new TransientFault('Cannot do it: busy');
  assert.equal(await calls([transient(), transient(), transient()]), 3);
  assert.equal(await calls(Array.from({ length: 10 }, transient)), fastRules.attemptsMax);
  assert.equal(await calls([transient(), new Error('bug'), transient()]), 2);
});

test('progress makes the count begin anew', async () => {
  const attempts = new Attempts(fastRules);
  const fault = new TransientFault('Cannot do it: busy');
  for (let i = 0; i < 20; i++) {
    await attempts.next(fault, signal);
    attempts.progressed();
  }
  for (let i = 1; i < fastRules.attemptsMax; i++) await attempts.next(fault, signal);
  await assert.rejects(attempts.next(fault, signal), fault);
});

test('who asks for a wait gets it, or is left', async () => {
  const asking = (retryAfterMs: number) =>
    new TransientFault('Cannot do it: busy', { retryAfterMs });
  const started = performance.now();
  await new Attempts(fastRules).next(asking(200), signal);
  assert.ok(performance.now() - started >= 199);
  assert.equal(await calls([asking(fastRules.retryAfterMaxMs + 1), asking(0)]), 1);
});

test('an abort ends the wait with its reason', async () => {
  const rules = { ...fastRules, waitFirstMs: 1e6, waitMaxMs: 1e6 };
  const abort = new AbortController();
  const waiting = new Attempts(rules).next(new TransientFault('Cannot do it: busy'), abort.signal);
  const reason = new Error('enough');
  abort.abort(reason);
  await assert.rejects(waiting, reason);
});

test('Retry-After is a number of seconds or a date', () => {
  const nowMs = Date.parse('Wed, 21 Oct 2015 07:28:00 GMT');
  const meant: [header: string | undefined, waitMs: number | undefined][] = [
    ['120', 120_000],
    [' 0 ', 0],
    ['Wed, 21 Oct 2015 07:28:30 GMT', 30_000],
    ['Wed, 21 Oct 2015 07:00:00 GMT', 0],
    ['-1', undefined],
    ['1.5', undefined],
    ['9999999999', undefined],
    ['soon GMT', undefined],
    ['2015', 2_015_000],
    ['', undefined],
    [undefined, undefined],
  ];
  for (const [header, waitMs] of meant)
    assert.equal(parseRetryAfter(header, nowMs), waitMs, header);
});
