import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Pulse } from '../../../src/cache/fleet/pulse.ts';
import { VirtualClock } from '../../support/virtual-clock.ts';

test('who is silent while others answer is not excused; when all are, they are for a second', () => {
  const clock = new VirtualClock(0);
  const pulse = new Pulse(clock.now);
  const first = pulse.sent();
  clock.advance(10);
  pulse.answered();
  clock.advance(90);
  assert.ok(!pulse.excuses(first));

  const second = pulse.sent();
  clock.advance(999);
  assert.ok(pulse.excuses(second));
  const third = pulse.sent();
  clock.advance(1);
  assert.ok(!pulse.excuses(second));
  assert.ok(!pulse.excuses(third), 'it does not begin anew');

  pulse.answered();
  clock.advance(10);
  const fourth = pulse.sent();
  clock.advance(50);
  assert.ok(pulse.excuses(fourth));
});
