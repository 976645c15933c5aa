import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { mountsBelow, runChecked, runCommand, startCommand, TestHome } from './processes.ts';

test('a command gets its input and answers with its output and exit status', async () => {
  const script = 'cat; echo problem >&2; exit 3';
  const result = await runCommand('sh', ['-c', script], { input: 'text' });
  const expected = { exitCode: 3, signal: undefined, stdout: 'text', stderr: 'problem\n' };
  assert.deepEqual(result, expected);
  await assert.rejects(runChecked('sh', ['-c', script]), /exit status 3\nproblem/);
});

test('a command that is ended by a signal has no exit status', async () => {
  const result = await runCommand('sh', ['-c', 'kill -TERM $$']);
  assert.deepEqual([result.exitCode, result.signal], [undefined, 'SIGTERM']);
});

test('a command that is not installed is an error', async () => {
  await assert.rejects(runCommand('no-such-command', []), { code: 'ENOENT' });
});

test('a command that does not end is killed with its children', async () => {
  const script = 'sleep 60 & echo $!; sleep 60';
  const failed = runCommand('sh', ['-c', script], { timeoutMs: 200 });
  const error = await failed.then(
    () => new Error('it ended'),
    (error: Error) => error,
  );
  const [, childId] = /not done after 200 ms\n(\d+)/.exec(error.message) ?? [];
  assert.ok(childId !== undefined, error.message);
  // It may wait for init to collect it, without a command line.
  while (commandLine(childId) !== '') await sleep(10);
});

function commandLine(processId: string): string {
  const path = `/proc/${processId}/cmdline`;
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}

test('a command that talks without end is killed', async () => {
  await assert.rejects(runCommand('yes', []), /bytes of output/);
});

test('closing a home removes it with all that is mounted below it', async () => {
  const home = new TestHome();
  for (const name of ['a', 'with space']) {
    mkdirSync(home.path(name));
    execFileSync('mount', ['-t', 'tmpfs', 'imgstore-test', home.path(name)]);
    writeFileSync(home.path(name, 'file'), '');
  }
  mkdirSync(home.path('a', 'inner'));
  execFileSync('mount', ['-t', 'tmpfs', 'imgstore-test', home.path('a', 'inner')]);
  assert.equal(mountsBelow(home.dir).length, 3);
  await home.close();
  assert.deepEqual(mountsBelow(home.dir), []);
  assert.ok(!existsSync(home.dir));
});

test('the environment of a home holds no settings of the tester', () => {
  const home = new TestHome();
  process.env['IMGSTORE_STORE'] = 'file:///somewhere';
  try {
    const environment = home.environment({ EXTRA: '1' });
    assert.equal(environment['IMGSTORE_STORE'], undefined);
    assert.equal(environment['IMGSTORE_HOME'], home.home);
    assert.equal(environment['EXTRA'], '1');
    assert.equal(environment['PATH'], process.env['PATH']);
  } finally {
    delete process.env['IMGSTORE_STORE'];
  }
  return home.close();
});

test('closing a home kills a process that outlives it, and says so', async () => {
  const home = new TestHome({ endingTimeoutMs: 200 });
  const { child, result } = startCommand('sleep', ['60'], { env: home.environment() });
  await assert.rejects(home.close(), new RegExp(`had to be killed: ${child.pid} \\(sleep 60\\)`));
  assert.equal((await result).signal, 'SIGKILL');
  assert.ok(!existsSync(home.dir));
});
