/** `run`: what the image's config means to the process, its exit status, and nothing left of it. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { waitUntil } from '../support/poll.ts';
import {
  createTestHome,
  mountsBelow,
  type RunningCommand,
  runChecked,
  type TestHome,
} from '../support/processes.ts';
import { pushSmallImage, runnableEntries } from '../support/small-images.ts';

function run(home: TestHome, ...args: string[]) {
  return home.run(['run', 'small', '--', ...args]);
}

/** What a run must not leave: mounts, records, containers' cgroups. */
async function assertNothingLeft(home: TestHome): Promise<void> {
  const fuse = `${home.home}/run/fuse`;
  const table = `${home.home}/run/mounts`;
  await waitUntil('the table is empty', () => readdirSync(table).join() === 'serial');
  assert.deepEqual(
    mountsBelow(home.dir).filter(point => point !== fuse),
    [],
  );
}

/** Runs a program that says when it is ready, and waits until it has. */
async function startReady(home: TestHome, ...args: string[]): Promise<RunningCommand> {
  const running = home.start(['run', 'small', '--', ...args]);
  await new Promise<void>(ready => running.child.stdout!.once('data', () => ready()));
  return running;
}

let sleeps = 0;

/** Runs `sleep` as the container's only process. */
async function startAsleep(home: TestHome) {
  const time = `${process.pid}.${++sleeps}`; // nobody else sleeps as long
  const isAsleep = async () =>
    (await runChecked('ps', ['-eo', 'args'])).stdout.split('\n').includes(`sleep ${time}`);
  const running = home.start(['run', 'small', '--', 'sleep', time]);
  await waitUntil('the program sleeps', isAsleep);
  return { running, isAsleep };
}

test('entry point, arguments, environment, folder, user, home and input', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small', {
    config: {
      Entrypoint: ['/bin/sh', '-c', 'echo "$0|$1|$GREETING|$HOME|$PATH"; pwd; id; cat'],
      Cmd: ['first', 'of the image'],
      Env: ['PATH=/bin', 'GREETING=hello there', 'broken'],
      WorkingDir: '/srv',
      User: 'web',
    },
  });
  const own = await home.runChecked(['run', 'small'], { input: 'from outside\n' });
  assert.equal(
    own.stdout,
    'first|of the image|hello there|/srv|/bin\n/srv\n' +
      'uid=33(web) gid=34(web) groups=34(web),35(logs),36(media)\nfrom outside\n',
  );
  assert.equal(own.stderr, '');
  const given = await home.runChecked(['run', 'small', '--', 'mine']);
  assert.match(given.stdout, /^mine\|\|hello there/);
  await assertNothingLeft(home);
});

test('users by name and number, with and without a group', async context => {
  const home = createTestHome(context);
  const users = {
    '': 'uid=0(root) gid=0(root)',
    '33': 'uid=33(web) gid=34(web) groups=34(web),35(logs),36(media)',
    'web:media': 'uid=33(web) gid=36(media)',
    '1234:5678': 'uid=1234 gid=5678',
  };
  for (const [user, expected] of Object.entries(users)) {
    await pushSmallImage(home, 'small', { config: { User: user } });
    const { stdout } = await home.runChecked(['run', 'small', '--', 'id']);
    assert.ok(stdout.startsWith(expected), `${user}: ${stdout}`);
  }
  await pushSmallImage(home, 'small', { config: { User: 'nobody-here' } });
  const result = await run(home, 'id');
  assert.equal(result.exitCode, 1);
  assert.match(result.stderr, /^imgstore: Cannot run as user "nobody-here": [^\n]+\n$/);
  await assertNothingLeft(home);
});

test('exit statuses, and one line for what cannot be started', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  assert.equal((await run(home, 'sh', '-c', 'exit 37')).exitCode, 37);
  const failures = [
    ['no-such', 127, /"no-such": the image has no such program/],
    ['/srv/no-such', 127, /no such program/],
    ['/srv/plain', 126, /it is not executable/],
    ['/srv', 126, /it is a directory/],
  ] as const;
  for (const [program, status, pattern] of failures) {
    const result = await run(home, program);
    assert.equal(result.exitCode, status);
    assert.match(result.stderr, /^imgstore: Cannot start [^\n]+\n$/);
    assert.match(result.stderr, pattern);
  }
  await pushSmallImage(home, 'small', { config: { Cmd: [] } });
  const none = await home.run(['run', 'small']);
  assert.equal(none.exitCode, 2);
  assert.match(none.stderr, /^imgstore: Cannot run the image: it names no program[^\n]+\n$/);
  await assertNothingLeft(home);
});

test('every run has a fresh writable layer, and two run at once', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  const script =
    'test ! -e /srv/mark && echo x > /srv/mark && echo y > /srv/plain && cat /srv/plain';
  const results = await Promise.all([run(home, 'sh', '-c', script), run(home, 'sh', '-c', script)]);
  for (const { exitCode, stdout, stderr } of [...results, await run(home, 'sh', '-c', script)]) {
    assert.deepEqual([exitCode, stdout, stderr], [0, 'y\n', '']);
  }
  await assertNothingLeft(home);
});

test('two homes run containers at once', async context => {
  const homes = [createTestHome(context), createTestHome(context)];
  for (const home of homes) await pushSmallImage(home, 'small');
  const running = await Promise.all(
    homes.map(home => startReady(home, 'sh', '-c', 'echo ready; cat >/dev/null; exit 5')),
  );
  for (const { result } of running) assert.equal((await result).exitCode, 5);
});

for (const [signal, status] of [
  ['SIGTERM', 143],
  ['SIGINT', 130],
] as const) {
  test(`${signal} reaches the program, and ends one that does not handle it`, async context => {
    const home = createTestHome(context);
    await pushSmallImage(home, 'small');
    const script = `trap 'echo caught; exit 9' ${signal.slice(3)}; echo ready; while :; do sleep 0.1; done`;
    const catching = await startReady(home, 'sh', '-c', script);
    catching.child.kill(signal);
    const caught = await catching.result;
    assert.deepEqual([caught.exitCode, caught.stdout], [9, 'ready\ncaught\n']);
    const plain = await startAsleep(home);
    plain.running.child.kill(signal);
    assert.equal((await plain.running.result).exitCode, status);
    await assertNothingLeft(home);
  });
}

test('a third SIGTERM ends what will not end', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  const script = "trap 'echo no' TERM; echo ready; while :; do sleep 0.1; done";
  const { child, result } = await startReady(home, 'sh', '-c', script);
  for (let i = 0; i < 3; i++) {
    const answered = once(child.stdout!, 'data');
    child.kill('SIGTERM');
    if (i < 2) await answered;
  }
  assert.equal((await result).exitCode, 143);
  await assertNothingLeft(home);
});

test('killed, the command leaves neither container nor mounts', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  const { running, isAsleep } = await startAsleep(home);
  running.child.kill('SIGKILL');
  await waitUntil('the program is gone', async () => !(await isAsleep()));
  await assertNothingLeft(home);
});

test('a killed daemon: the next command clears the container', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  const { running } = await startAsleep(home);
  const { stdout } = await home.runChecked(['daemon', 'status', '--json']);
  process.kill((JSON.parse(stdout) as { pid: number }).pid, 'SIGKILL');
  await home.runChecked(['daemon', 'start']);
  assert.notEqual((await running.result).exitCode, 0);
  await assertNothingLeft(home);
});

test('an image cannot make the host read its own accounts', async context => {
  const home = createTestHome(context);
  const entries = runnableEntries.filter(({ path }) => !path.startsWith('etc/'));
  await pushSmallImage(home, 'small', {
    entries: [...entries, { path: 'etc', type: 'symlink', target: '../../../../../../../../etc' }],
    config: { User: 'daemon' },
  });
  assert.ok(readFileSync('/etc/passwd', 'utf8').includes('daemon:'));
  const result = await run(home, 'id');
  assert.equal(result.exitCode, 1, result.stdout);
  assert.match(result.stderr, /^imgstore: Cannot run as user "daemon"/);
  assert.ok(existsSync('/etc/passwd'));
});

test('--stats says what was fetched', async context => {
  const home = createTestHome(context);
  await pushSmallImage(home, 'small');
  const { stderr } = await home.runChecked(['run', '--stats', 'small', '--', 'true']);
  assert.match(
    stderr,
    /^Fetched [0-9.]+ [KM]iB of [0-9.]+ MiB stored \([0-9.]+ %\), \d+ of \d+ chunks/,
  );
});
