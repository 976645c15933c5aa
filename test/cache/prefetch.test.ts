import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '../../src/base/errors.ts';
import { isUnwanted, Prefetch, PrefetchShed } from '../../src/cache/prefetch.ts';

test('a prefetch becomes wanted once, and tells it once to who listens', () => {
  const prefetch = new Prefetch();
  assert.ok(isUnwanted(prefetch) && !isUnwanted(undefined));
  const told: string[] = [];
  prefetch.onWanted(() => told.push('a'));
  const leave = prefetch.onWanted(() => told.push('b'));
  leave();
  assert.equal(told.length, 0);
  prefetch.want();
  assert.ok(prefetch.wanted && !isUnwanted(prefetch));
  prefetch.want();
  assert.equal(told.join(), 'a');
  prefetch.onWanted(() => told.push('c'));
  assert.equal(told.join(), 'a,c', 'who comes late hears it at once');
});

test('to shed one is no fault of anything: BUSY', () => {
  assert.ok(hasCode(new PrefetchShed('too many wait already'), ['BUSY']));
});
