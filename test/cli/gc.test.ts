/** `rm`, `stats` and `gc` of a store in a folder, with an image mounted all the while. */

import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { createTestHome, type TestHome } from '../support/processes.ts';
import { Random } from '../support/random.ts';
import { noise, pushSmallImage, runnableEntries } from '../support/small-images.ts';

const other = [{ path: 'noise', content: new Random(8).bytes(900_000) }];

/** Inodes by file, of everything below a folder. */
function inodesBelow(folder: string): Map<string, number> {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort();
  const entries = files.map(file => [file, statSync(join(folder, file))] as const);
  return new Map(entries.filter(([, stats]) => stats.isFile()).map(([f, stats]) => [f, stats.ino]));
}

interface GcData {
  dryRun: boolean;
  steps: { do: string; root: string }[];
  problems: object[];
}

async function gcData(home: TestHome, ...args: string[]): Promise<GcData> {
  return JSON.parse((await home.runChecked(['gc', ...args, '--json'])).stdout) as GcData;
}

test('what a removed image took comes back, and others stay mounted and whole', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'kept');
  await pushSmallImage(home, 'gone', { entries: [...runnableEntries, ...other] });
  mkdirSync(home.path('mnt'));
  await home.runChecked(['mount', 'kept', 'mnt']);
  const nothing = await home.runChecked(['gc', '--grace', '0s']);
  assert.match(nothing.stdout, /^nothing to do; 2 names need .* chunks and 2 recipes\n$/);
  const removed = await home.runChecked(['rm', 'gone']);
  assert.match(removed.stdout, /imgstore gc frees/);

  const stats = await home.runChecked(['stats']);
  assert.match(stats.stdout, /^gc frees: +\d+\.\d KiB that no name needs, 0 B of second copies$/m);
  assert.match(stats.stdout, /^r0001 +active .* [\d.]+ MiB +\d+\.\d KiB$/m);

  const before = inodesBelow(join(home.home, 'store'));
  const dry = await home.runChecked(['gc', '--dry-run', '--grace', '0s']);
  const after = inodesBelow(join(home.home, 'store'));
  for (const files of [before, after]) files.delete('clock');
  assert.deepEqual(after, before, 'a dry run changes nothing');
  const steps = dry.stdout.trimEnd().split('\n').slice(0, -1);
  assert.deepEqual(
    steps.map(line => line.split(':')[0]),
    ['open r0002', 'copy to r0002', 'expire r0001', 'delete r0001'],
  );
  const done = await home.runChecked(['gc', '--grace', '0s']);
  const withoutTimes = (lines: string[]) => lines.map(line => line.replace(/\d{4}-\S+Z/g, 'TIME'));
  const doneSteps = done.stdout.trimEnd().split('\n').slice(0, -1);
  assert.deepEqual(withoutTimes(doneSteps), withoutTimes(steps), 'the plan is what is done');
  assert.match(done.stdout, /^removed \d+ objects, [\d.]+ MiB; 1 name needs /m);

  const left = inodesBelow(join(home.home, 'store', 'roots'));
  assert.ok(left.size > 0);
  for (const [file, inode] of left) {
    const was = before.get(join('roots', file.replace('r0002', 'r0001')));
    assert.equal(inode, was, `${file} is a link to what was there`);
  }
  const { stdout } = await home.runChecked(['verify']);
  assert.match(stdout, /kept:latest is whole/);
  assert.ok(readFileSync(home.path('mnt', 'srv', 'noise')).equals(noise));
  const last = await home.runChecked(['stats']);
  assert.match(last.stdout, /^gc frees: +0 B that no name needs, 0 B of second copies$/m);
  assert.match(last.stdout, /^r0002 +active /m);
});

test('with a grace a collection says what waits, as text and as JSON', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'kept', { entries: other });
  await pushSmallImage(home, 'gone');
  await home.runChecked(['rm', 'gone']);
  const dry = await gcData(home, '--dry-run');
  assert.equal(dry.dryRun, true);
  assert.deepEqual(
    dry.steps.map(step => [step.do, step.root]),
    [
      ['open', 'r0002'],
      ['copy', 'r0002'],
      ['wait', 'r0001'],
    ],
  );
  assert.deepEqual((await gcData(home)).steps.length, 3);
  const { stdout } = await home.runChecked(['gc']);
  const since = '\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\dZ';
  const waiting = `retired since ${since}, it expires from ${since} on \\(grace 24h\\)`;
  assert.match(stdout, new RegExp(`^wait for r0001: ${waiting}$`, 'm'));
  const stats = JSON.parse((await home.runChecked(['stats', '--json'])).stdout);
  assert.deepEqual(
    stats.roots.map(({ id, state }: { id: string; state: string }) => [id, state]),
    [
      ['r0002', 'active'],
      ['r0001', 'retired'],
    ],
  );
  assert.ok(stats.garbageBytes > 0 && stats.secondCopyBytes > 0);
  const quiet = await home.runChecked(['gc', '--grace', '0s', '--quiet']);
  assert.deepEqual([quiet.stdout, quiet.stderr], ['', '']);
  assert.deepEqual((await gcData(home)).steps, []);
});

test('a damaged name stops the deletion, with what to do about it', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'kept', { entries: other });
  await pushSmallImage(home, 'gone');
  await home.runChecked(['rm', 'gone']);
  const record = join(home.home, 'store', 'names', 'kept', '@latest');
  const bytes = readFileSync(record);
  writeFileSync(record, 'damaged');
  for (const args of [
    ['gc', '--dry-run'],
    ['gc', '--grace', '0s'],
  ]) {
    const { exitCode, stdout, stderr } = await home.run(args);
    assert.equal(exitCode, 1);
    assert.match(
      stdout,
      /^wait for r0001: a name cannot be read, so what it needs cannot be told$/m,
    );
    assert.match(stderr, / warn kept:latest cannot be read: .* it is damaged\n/);
    assert.match(stderr, /what kept:latest needs cannot be told. Push .* imgstore rm\.\n$/);
  }
  writeFileSync(record, bytes);
  await home.runChecked(['gc', '--grace', '0s']);
  await home.runChecked(['verify']);
});

test('a grace that is none is wrong usage', async context => {
  const home = createTestHome(context);
  for (const grace of ['1', 'h', '1w', '-1s', '1.5h', '1 h', '9999999s']) {
    const { exitCode, stderr } = await home.run(['gc', `--grace=${grace}`]);
    assert.equal(exitCode, 2, grace);
    assert.match(stderr, /it is not a duration. Give a number and s, m, h or d/, grace);
  }
});
