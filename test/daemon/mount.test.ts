/** Mounts as a user makes and takes them away: every kind of folder, and nothing left afterwards. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { test } from 'node:test';
import { loadSettings } from '../../src/base/settings.ts';
import { DaemonClient } from '../../src/daemon/client.ts';
import { loopDevicesBelow } from '../support/mounts.ts';
import { waitUntil } from '../support/poll.ts';
import {
  createTestHome,
  mountsBelow,
  runChecked,
  runCommand,
  type TestHome,
} from '../support/processes.ts';
import { assertSameBytes } from '../support/same-bytes.ts';
import { noise, pushSmallImage } from '../support/small-images.ts';

interface Listed {
  name: string;
  dir: string;
}

function folder(home: TestHome, ...names: string[]): string {
  const path = home.path(...names);
  mkdirSync(path, { recursive: true });
  return path;
}

async function mounted(home: TestHome): Promise<Listed[]> {
  return JSON.parse((await home.runChecked(['mounts', '--json'])).stdout) as Listed[];
}

async function assertNothingLeft(home: TestHome): Promise<void> {
  assert.deepEqual(await mounted(home), []);
  const fuse = `${home.home}/run/fuse`;
  assert.deepEqual(
    mountsBelow(home.dir).filter(point => point !== fuse),
    [],
  );
  assert.deepEqual(
    readdirSync(`${home.home}/run/mounts`).filter(name => name !== 'serial'),
    [],
  );
  assert.deepEqual(await loopDevicesBelow(home.dir), []);
}

/** One line on stderr that says all of it. */
async function assertRefused(home: TestHome, args: string[], pattern: RegExp): Promise<void> {
  const result = await home.run(args);
  assert.equal(result.exitCode, 1, result.stderr);
  assert.match(result.stderr, /^imgstore: [^\n]+\n$/);
  assert.match(result.stderr, pattern);
  assert.equal(result.stdout, '');
}

/** A process in the folder, until it is killed. */
async function processIn(dir: string, context: { after(fn: () => void): void }) {
  const child = spawn('cat', [], { cwd: dir, stdio: ['pipe', 'pipe', 'ignore'] });
  context.after(() => void child.kill('SIGKILL'));
  await once(child, 'spawn');
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

test('read-only, writable and as a disk, each gone without a trace', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  const dir = folder(home, 'mnt');
  const store = ['--store', `file://${home.home}/store`];

  await home.runChecked(['mount', ...store, 'small', dir]);
  assertSameBytes(readFileSync(`${dir}/srv/noise`), noise);
  assert.throws(() => writeFileSync(`${dir}/new`, 'x'), { code: 'EROFS' });
  await home.runChecked(['umount', dir]);
  await assertNothingLeft(home);

  await home.runChecked(['mount', '--rw', 'small', dir]);
  writeFileSync(`${dir}/srv/plain`, 'changed');
  writeFileSync(`${dir}/new`, 'x');
  await home.runChecked(['umount', dir]);
  await home.runChecked(['mount', '--rw', 'small', dir]);
  assert.equal(readFileSync(`${dir}/srv/plain`, 'utf8'), 'not a program\n');
  assert.equal(existsSync(`${dir}/new`), false);
  await home.runChecked(['umount', dir]);
  await assertNothingLeft(home);

  await home.runChecked(['mount', '--as', 'disk', 'small', dir]);
  assert.deepEqual(readdirSync(dir), ['disk']);
  await home.runChecked(['export', 'small', `disk:${home.path('exported')}`]);
  const same = await runCommand('cmp', [`${dir}/disk`, home.path('exported')]);
  assert.equal(same.exitCode, 0, same.stdout);
  await home.runChecked(['umount', dir]);
  await assertNothingLeft(home);
});

test('folders named in every way', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  const odd = folder(home, 'with space, comma:colon \\ and ünïcödé');
  folder(home, 'relative', 'below');
  folder(home, 'target');
  symlinkSync('target', home.path('symlink'));
  const names = [odd, 'relative/below', './relative/../relative/', home.path('symlink')];
  for (const name of names) {
    for (const rw of [[], ['--rw']]) {
      await home.runChecked(['mount', ...rw, 'small', name]);
      assert.ok(existsSync(`${home.path()}/${name.replace(home.path(), '')}/bin/busybox`), name);
      await home.runChecked(['umount', name]);
      await assertNothingLeft(home);
    }
  }
});

test('what cannot be mounted is refused in one line and leaves nothing', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  const dir = folder(home, 'mnt');
  writeFileSync(home.path('file'), '');
  await assertRefused(home, ['mount', 'small', 'missing'], /missing: no such folder/);
  await assertRefused(home, ['mount', 'small', 'file'], /file: it is not a directory/);
  await assertRefused(home, ['mount', 'unknown', dir], /unknown:latest: .*no such name/);
  await home.runChecked(['mount', 'small', dir]);
  await assertRefused(home, ['mount', 'small', dir], /mounted there already/);
  await assertRefused(home, ['umount', home.path('file')], /imgstore mounted nothing there/);
  await home.runChecked(['umount', dir]);
  await assertRefused(home, ['umount', dir], /imgstore mounted nothing there/);
  await assertNothingLeft(home);
});

test('two mounts of one image, and one below another', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  const [one, two] = [folder(home, 'one'), folder(home, 'two')];
  await home.runChecked(['mount', 'small', one]);
  await home.runChecked(['mount', 'small', two]);
  await home.runChecked(['mount', 'small', `${one}/srv`]);
  assert.deepEqual(
    (await mounted(home)).map(({ dir }) => dir),
    [one, two, `${one}/srv`],
  );
  await assertRefused(home, ['umount', one], /it is in use/);
  assert.ok(existsSync(`${one}/srv/bin/busybox`));
  for (const dir of [`${one}/srv`, one, two]) await home.runChecked(['umount', dir]);
  await assertNothingLeft(home);
});

test('more mounts at once than the pool has threads', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  await home.runChecked(['daemon', 'start']);
  const client = new DaemonClient(loadSettings({ home: home.home }, {}));
  const { signal } = new AbortController();
  const dirs = Array.from({ length: 24 }, (_, i) => folder(home, `many-${i}`));
  const store = `${home.home}/store`;
  await Promise.all(
    dirs.map(dir =>
      client.mount({ name: 'small', store, dir, as: 'erofs', rw: false, lease: false }, signal),
    ),
  );
  assert.equal((await mounted(home)).length, dirs.length);
  await home.runChecked(['daemon', 'stop', '--force']);
  assert.deepEqual(mountsBelow(home.dir), []);
});

test('two mounts on one folder at once: one is refused', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  const dir = folder(home, 'mnt');
  const results = await Promise.all([1, 2, 3].map(() => home.run(['mount', 'small', dir])));
  assert.deepEqual(results.map(({ exitCode }) => exitCode).sort(), [0, 1, 1]);
  const umounts = await Promise.all([1, 2].map(() => home.run(['umount', dir])));
  assert.ok(umounts.some(({ exitCode }) => exitCode === 0));
  await assertNothingLeft(home);
});

test('what is in use stays, works on, and goes later', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  const dir = folder(home, 'mnt');
  for (const rw of [[], ['--rw']]) {
    await home.runChecked(['mount', ...rw, 'small', dir]);
    const user = await processIn(`${dir}/srv`, context);
    await assertRefused(home, ['umount', dir], /it is in use/);
    assertSameBytes(readFileSync(`${dir}/srv/noise`), noise);
    assert.equal((await mounted(home)).length, 1);
    await end(user);
    await home.runChecked(['umount', dir]);
    await assertNothingLeft(home);
  }
});

test('what umount(8) took away is cleared, and what came there since is left', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  const dir = folder(home, 'mnt');
  for (const kind of [[], ['--rw'], ['--as', 'disk']]) {
    await home.runChecked(['mount', ...kind, 'small', dir]);
    await runChecked('umount', [dir]);
    await home.runChecked(['umount', dir]);
    await assertNothingLeft(home);
  }
  await home.runChecked(['mount', '--rw', 'small', dir]);
  await runChecked('umount', [dir]);
  await home.runChecked(['mount', 'small', dir]); // in the place of the other
  await runChecked('umount', [dir]);
  await runChecked('mount', ['-t', 'tmpfs', 'test', dir]);
  writeFileSync(`${dir}/theirs`, '');
  await home.runChecked(['umount', dir]);
  assert.deepEqual(readdirSync(dir), ['theirs']);
  await runChecked('umount', [dir]);
  await assertNothingLeft(home);
});

test('what somebody mounted on top is not unmounted with ours', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  const dir = folder(home, 'mnt');
  await home.runChecked(['mount', 'small', dir]);
  await runCommand('mount', ['-t', 'tmpfs', 'test', dir]);
  await assertRefused(home, ['umount', dir], /something else is mounted on it/);
  await runCommand('umount', [dir]);
  assert.ok(existsSync(`${dir}/bin/busybox`));
  await home.runChecked(['umount', dir]);
  await assertNothingLeft(home);
});

for (const signal of ['SIGINT', 'SIGTERM', 'SIGKILL'] as const) {
  test(`--foreground until ${signal}, also while it is in use`, async context => {
    const home = createTestHome(context);
    await pushSmallImage(home, 'small');
    const dir = folder(home, 'mnt');
    for (const used of [false, true]) {
      const { child, result } = home.start(['mount', '--foreground', '--rw', 'small', dir]);
      await once(child.stdout!, 'data'); // it says so once it is mounted
      assert.ok(existsSync(`${dir}/bin/busybox`));
      const user = used ? await processIn(dir, context) : undefined;
      child.kill(signal);
      const { exitCode, stdout, stderr } = await result;
      if (signal !== 'SIGKILL') {
        assert.equal(exitCode, 0, stderr);
        assert.match(stdout, /is at .*mnt; Ctrl-C unmounts it\n.*mnt unmounted\n$/);
      }
      await waitUntil('it is unmounted', () => !existsSync(`${dir}/bin/busybox`));
      await waitUntil('it is forgotten', async () => (await mounted(home)).length === 0);
      if (user !== undefined) await end(user);
      await assertNothingLeft(home);
    }
  });
}

test('--foreground ends with an error when somebody else unmounts', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  const dir = folder(home, 'mnt');
  const { result } = home.start(['mount', '--foreground', '--json', 'small', dir]);
  await waitUntil('it is mounted', () => existsSync(`${dir}/bin/busybox`));
  await home.runChecked(['umount', dir]);
  const { exitCode, stdout, stderr } = await result;
  assert.equal(exitCode, 1);
  assert.match(stderr, /^imgstore: Cannot keep small:latest at .*mnt: it was unmounted\. .*\n$/);
  assert.equal((JSON.parse(stdout) as Listed).name, 'small:latest');
});
