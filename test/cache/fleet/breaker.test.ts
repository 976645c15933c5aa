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

test('failures of one moment may count as one', () => {
  for (const failTogether of [false, true]) {
    const b = new CircuitBreaker({ nowMs: () => 0, random: () => 1, failTogether });
    const round = () => {
      const ends = Array.from({ length: 3 }, () => b.begin()!);
      for (const end of ends) end('bad');
    };
    round();
    round();
    assert.equal(b.state, failTogether ? 'closed' : 'open');
    if (!failTogether) continue;
    round();
    const early = b.begin()!;
    round();
    early('bad');
    assert.equal(b.state, 'closed');
    b.begin()!('bad');
    assert.equal(b.state, 'open');
  }
});

test('half of many failing opens it', () => {
  const { breaker: b } = breaker();
  for (let i = 0; i < 19; i++) tell(b, 'bad', 'good');
  assert.equal(b.state, 'closed');
  tell(b, 'bad', 'good');
  assert.equal(b.state, 'open');
});

test('after a while three probes, together or not; if all are good they close it', () => {
  for (const atOnce of [1, 2, 3]) {
    const { clock, breaker: b } = breaker();
    tell(b, ...times(5, 'bad'));
    clock.advance(199);
    assert.equal(b.begin(), undefined);
    clock.advance(1);
    for (let good = 0; good < 3; ) {
      assert.equal(b.state, 'half-open');
      const probes = Array.from({ length: Math.min(atOnce, 3 - good) }, () => b.begin()!);
      if (good + atOnce >= 3) {
        assert.equal(b.begin(), undefined, 'as many as are needed');
        assert.ok(!b.passes);
      }
      for (const end of probes) end('good');
      good += probes.length;
    }
    assert.equal(b.state, 'closed');
    tell(b, ...times(4, 'bad'));
    assert.equal(b.state, 'closed', 'what was before is forgotten');
  }
});

test('one probe of three that is bad opens it, once', () => {
  const { clock, breaker: b } = breaker();
  tell(b, ...times(5, 'bad'));
  clock.advance(200);
  const [first, second, third] = Array.from({ length: 3 }, () => b.begin()!);
  first!('good');
  second!('bad');
  third!('bad');
  clock.advance(399);
  assert.equal(b.state, 'open');
  clock.advance(1);
  assert.deepEqual(tell(b, 'good', 'good', 'good'), times(3, 'good').map(Boolean));
  assert.equal(b.state, 'closed');
});

test('it may be told how many probes it takes', () => {
  const clock = new VirtualClock(0);
  const b = new CircuitBreaker({ nowMs: clock.now, random: () => 1, probesInARow: 1 });
  tell(b, ...times(5, 'bad'));
  clock.advance(200);
  const end = b.begin()!;
  assert.equal(b.begin(), undefined);
  end('good');
  assert.equal(b.state, 'closed');
});

test('a probe that says nothing leaves the next one to say it', () => {
  const { clock, breaker: b } = breaker();
  tell(b, ...times(5, 'bad'));
  clock.advance(200);
  assert.deepEqual(tell(b, 'good', 'unknown', 'good', 'good'), times(4, 'good').map(Boolean));
  assert.equal(b.state, 'closed');
});

test('each bad probe doubles the wait, up to 15 seconds', () => {
  const { clock, breaker: b } = breaker();
  tell(b, ...times(5, 'bad'));
  for (const waitMs of [200, 400, 800, 1600, 3200, 6400, 12_800, 15_000, 15_000]) {
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
  clock.advance(200);
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
  assert.ok(Math.min(...waits) >= 100 && Math.max(...waits) <= 201);
  assert.ok(Math.max(...waits) - Math.min(...waits) > 80);
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
