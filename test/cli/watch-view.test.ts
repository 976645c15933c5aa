/* biome-ignore-all lint/suspicious/noControlCharactersInRegex: they are what is looked for */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NodeStats } from '../../src/cache/fleet/node.ts';
import { TierMeter } from '../../src/cache/metered.ts';
import { clip, Screen } from '../../src/cli/screen.ts';
import { ratesOf } from '../../src/cli/watch-rates.ts';
import { oneLine, picture } from '../../src/cli/watch-view.ts';
import type { Figures, MountFigures } from '../../src/daemon/protocol.ts';
import { idleFigures, idleMount } from '../daemon/figures.ts';

function node(name: string, changed: Partial<NodeStats> = {}): NodeStats {
  const counts = { opened: 0, asked: 0, answered: 0, absent: 0, failed: 0, stored: 0, refused: 0 };
  const wrong = { unknown: 0, foreign: 0, damaged: 0, lie: 0 };
  return { name, breaker: 'closed', ...counts, wrong, ...changed };
}

function withNodes(nodes: NodeStats[]): Figures['fleet'] {
  const counts = { hits: 0, misses: 0, turnedAway: 0, degraded: 0, puts: 0, putsDeclined: 0 };
  const leases = { leasesWon: 0, leasesWaited: 0, leasesInVain: 0 };
  const now = { reading: 0, waiting: 0, pendingBytes: 0, shed: 0, prefetchesWaiting: 0 };
  return { ...counts, ...leases, ...now, repairs: 0, nodes } as Figures['fleet'];
}

function mountsOf(count: number, changed: Partial<MountFigures>): MountFigures[] {
  return Array.from({ length: count }, (_, i) => ({ ...idleMount, id: `m${i}`, ...changed }));
}

/** Ten seconds apart: 100 gets of l1, of which 80 hits of 3 ms; mounts that read. */
function twoFigures(mounts = 1): [Figures, Figures] {
  const meter = new TierMeter('l1');
  const store = new TierMeter('store').figures();
  const older = { ...idleFigures, tiers: [meter.figures(), store] };
  older.mounts = mountsOf(mounts, { reads: 5, bytesRead: 1000, hits: { memory: 10, l1: 10 } });
  older.fleet = withNodes([node('a'), node('b', { failed: 7 }), node('c')]);
  for (let i = 0; i < 100; i++) {
    meter.begin();
    meter.end(i < 80 ? 'hit' : i < 95 ? 'miss' : 'fault', 3, i < 80 ? 1024 : 0);
  }
  meter.begin();
  meter.end('aborted', 1, 0);
  meter.begin();
  const newer = { ...older, tiers: [meter.figures(), store] };
  newer.mounts = mountsOf(mounts, {
    reads: 25,
    bytesRead: 11_240,
    readErrors: 1,
    hits: { memory: 40, l1: 20 },
  });
  newer.status = { ...older.status, mounts, uptimeSeconds: 7384 };
  newer.fleet = withNodes([
    node('a'),
    node('b', { failed: 7, breaker: 'open' }),
    node('c', { wrong: { unknown: 0, foreign: 20, damaged: 0, lie: 0 } }),
  ]);
  return [newer, older];
}

test('rates are differences over the interval', () => {
  const rates = ratesOf(...twoFigures(), 10);
  const [l1, store] = rates.tiers;
  assert.equal(l1!.getsPerSecond, 10);
  assert.equal(l1!.hitShare, 0.8);
  assert.equal(l1!.hitBytesPerSecond, 8192);
  assert.equal(l1!.faultsPerSecond, 0.5);
  assert.equal(l1!.inFlight, 1);
  assert.ok(l1!.hitMsP50! > 2 && l1!.hitMsP50! < l1!.hitMsP99! && l1!.hitMsP99! <= 5);
  assert.deepEqual([store!.getsPerSecond, store!.hitShare, store!.hitMsP99], [0, null, null]);
  assert.equal(rates.lookupsPerSecond, 4);
  assert.equal(rates.memoryShare, 0.75);
  const [mount] = rates.mounts;
  assert.equal(mount!.readsPerSecond, 2);
  assert.equal(mount!.bytesPerSecond, 1024);
  assert.equal(mount!.errorsPerSecond, 0.1);
  assert.deepEqual(
    rates.nodes.map(({ node, breaker, wrongPerSecond }) => [node, breaker, wrongPerSecond]),
    [
      ['b', 'open', 0],
      ['c', 'closed', 2],
    ],
  );
});

test('a mount that has come counts from nothing, one that has gone does not count', () => {
  const [newer, older] = twoFigures();
  const come = ratesOf(newer, { ...older, mounts: [] }, 1);
  assert.equal(come.mounts[0]!.readsPerSecond, 25);
  assert.equal(come.lookupsPerSecond, 60);
  const gone = ratesOf({ ...newer, mounts: [] }, older, 1);
  assert.deepEqual(gone.mounts, []);
  assert.equal(gone.memoryShare, null);
});

test('a picture has 80 columns at most, and as many lines as there is room for', () => {
  for (const mounts of [0, 1, 15, 500]) {
    const [newer, older] = twoFigures(mounts);
    newer.tiers[0]!.hitBytes = 1e13;
    for (const linesMax of [3, 10, 23, 60]) {
      const lines = picture(newer, ratesOf(newer, older, 0.1), linesMax);
      assert.ok(lines.length <= linesMax, `${lines.length} of ${linesMax}`);
      for (const line of lines) assert.ok(line.length < 80, `${line.length}: ${line}`);
      if (mounts === 500 && linesMax === 23) {
        assert.equal(lines.length, 23);
        assert.match(lines.at(-1)!, /^and \d+ more$/);
      }
    }
  }
});

test('a line for logs names tiers, nodes in trouble and reads that failed', () => {
  const line = oneLine(ratesOf(...twoFigures(), 10));
  assert.match(
    line,
    /^1 mount 2\.0 reads\/s, 0\.1 failed \| memory 4\.0\/s 75\.0 % \| l1 10\/s 80\.0 %/,
  );
  assert.match(line, /\| store 0\/s - \| b open, c 2\.0 wrong\/s$/);
});

test('a store that does not answer is said', () => {
  const [newer, older] = twoFigures();
  const store = { location: 's3://b', requests: 0, waiting: 3, prefetchesWaiting: 0, outages: 1 };
  const outage = { seconds: 75, isRecovering: false, reason: 'it refuses connections' };
  newer.stores = [{ ...store, outage }];
  const rates = ratesOf(newer, older, 1);
  const words = 'STORE OUT for 1 min, 3 reads waiting: s3://b: it refuses connections';
  assert.ok(picture(newer, rates, 20).includes(words));
  assert.ok(oneLine(rates).endsWith(` | ${words}`));
  newer.stores = [{ ...store, outage: null }];
  assert.deepEqual(ratesOf(newer, older, 1).outages, []);
});

test('a screen is drawn in its place, and leaves the cursor as it was', () => {
  let written = '';
  const write = (text: string) => {
    written += text;
  };
  const terminal = { columns: 20, rows: 4, write };
  const screen = new Screen(terminal);
  assert.equal(screen.linesMax, 3);
  screen.draw(['one', 'two', 'three', 'four']);
  assert.equal(written, '\u001b[?25lone\u001b[K\ntwo\u001b[K\nthree\u001b[K\n\u001b[J');
  written = '';
  screen.draw(['a'.repeat(30)]);
  assert.equal(written, `\r\u001b[3A${'a'.repeat(19)}\u001b[K\n\u001b[J`);
  written = '';
  terminal.columns = 10;
  screen.draw(['b']);
  assert.match(written, /^\u001b\[2J\u001b\[H/);
  written = '';
  screen.end();
  screen.end();
  assert.equal(written, '\u001b[?25h');
});

test('what is shown has no control characters and does not wrap', () => {
  assert.equal(clip('a\u001b[2Jb\tc\u009b', 80), 'a?[2Jb?c?');
  assert.equal(clip('\u4e2d\u4e2d\u4e2d', 5), '\u4e2d\u4e2d');
  assert.equal(clip('abc', 2), 'ab');
});
