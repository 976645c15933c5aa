import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CircuitBreaker, type Outcome } from '../../../src/cache/fleet/breaker.ts';
import { seeded } from '../../support/random.ts';
import { VirtualClock } from '../../support/virtual-clock.ts';

function breaker(random = () => 1) {
  const clock = new VirtualClock(0);
  return { clock, breaker: new CircuitBreaker({ nowMs: clock.now, random }) };
}

/** Whether they passed. */
function tell(breaker: CircuitBreaker, ...outcomes: Outcome[]): boolean[] {
  return outcomes.map(outcome => {
    const end = breaker.begin();
    end?.(outcome);
    return end !== undefined;
  });
}

const times = (count: number, outcome: Outcome) => Array<Outcome>(count).fill(outcome);

test('consecutive failures open it, others do not', () => {
  const { breaker: b } = breaker();
  for (let i = 0; i < 100; i++) tell(b, ...times(4, 'bad'), 'unknown', ...times(6, 'good'));
  assert.equal(b.state, 'closed');
  tell(b, ...times(4, 'bad'), 'unknown', 'bad');
  assert.equal(b.state, 'open');
  assert.equal(b.begin(), undefined);
  assert.equal(b.opened, 1);
});

test('half of many failing opens it', () => {
  const { breaker: b } = breaker();
  for (let i = 0; i < 19; i++) tell(b, 'bad', 'good');
  assert.equal(b.state, 'closed');
  tell(b, 'bad', 'good');
  assert.equal(b.state, 'open');
});

test('after a while one probe at a time; three good ones close it', () => {
  const { clock, breaker: b } = breaker();
  tell(b, ...times(5, 'bad'));
  clock.advance(499);
  assert.equal(b.begin(), undefined);
  clock.advance(1);
  for (let probe = 0; probe < 3; probe++) {
    assert.equal(b.state, 'half-open');
    const end = b.begin()!;
    assert.equal(b.begin(), undefined, 'one at a time');
    assert.ok(!b.passes);
    end('good');
  }
  assert.equal(b.state, 'closed');
  tell(b, ...times(4, 'bad'));
  assert.equal(b.state, 'closed', 'what was before is forgotten');
});

test('a probe that says nothing leaves the next one to say it', () => {
  const { clock, breaker: b } = breaker();
  tell(b, ...times(5, 'bad'));
  clock.advance(500);
  assert.deepEqual(tell(b, 'good', 'unknown', 'good', 'good'), times(4, 'good').map(Boolean));
  assert.equal(b.state, 'closed');
});

test('each bad probe doubles the wait, up to 15 seconds', () => {
  const { clock, breaker: b } = breaker();
  tell(b, ...times(5, 'bad'));
  for (const waitMs of [500, 1000, 2000, 4000, 8000, 15_000, 15_000]) {
    clock.advance(waitMs - 1);
    assert.equal(b.state, 'open');
    clock.advance(1);
    assert.deepEqual(tell(b, 'bad', 'good'), [true, false]);
  }
  assert.equal(b.opened, 1);
});

test('what began before it opened is no probe', () => {
  const { clock, breaker: b } = breaker();
  const late = Array.from({ length: 8 }, () => b.begin()!);
  tell(b, ...times(5, 'bad'));
  clock.advance(500);
  for (const end of late) end('good');
  assert.equal(b.state, 'half-open');
  assert.deepEqual(tell(b, 'good'), [true]);
});

test('waits differ by half, so that workers do not probe together', () => {
  const waits = [...seeded(200)].map(random => {
    const { clock, breaker: b } = breaker(() => random.u32() / 2 ** 32);
    tell(b, ...times(5, 'bad'));
    while (b.state === 'open') clock.advance(1);
    return clock.now();
  });
  assert.ok(Math.min(...waits) >= 250 && Math.max(...waits) <= 501);
  assert.ok(Math.max(...waits) - Math.min(...waits) > 200);
});

test('a node that fails a share of requests is asked rarely once it is bad', () => {
  for (const random of seeded(20)) {
    const { clock, breaker: b } = breaker(() => random.u32() / 2 ** 32);
    let passed = 0;
    for (let request = 0; request < 10_000; request++) {
      clock.advance(10);
      passed += Number(tell(b, random.chance(0.9) ? 'bad' : 'good')[0]);
    }
    assert.ok(passed < 200, `seed ${random.seed}: ${passed} of 10000 in 100 s`);
  }
});
