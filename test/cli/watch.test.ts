/* biome-ignore-all lint/suspicious/noControlCharactersInRegex: they are what is looked for */

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { waitUntil } from '../support/poll.ts';
import { createTestHome, startCommand, type TestHome } from '../support/processes.ts';
import { pushSmallImage } from '../support/small-images.ts';

const launcher = join(import.meta.dirname, '..', '..', 'src', 'imgstore.mjs');
const onTerminal = join(import.meta.dirname, '..', 'support', 'on-terminal.py');

async function mounted(home: TestHome): Promise<void> {
  await pushSmallImage(home, 'small');
  mkdirSync(home.path('mnt'));
  await home.runChecked(['mount', 'small', 'mnt']);
}

/** A watch whose output is a pipe; `until` it has said so much, and then interrupted. */
function watching(home: TestHome, args: readonly string[]) {
  const { child, result } = home.start(['stats', '--watch', '--interval', '0.1', ...args]);
  let said = '';
  child.stdout!.on('data', (part: Buffer) => {
    said += part.toString();
  });
  return {
    until: (pattern: RegExp) => waitUntil(`it says ${pattern}`, () => pattern.test(said)),
    async interrupt() {
      child.kill('SIGINT');
      const { exitCode, stderr } = await result;
      return { exitCode, stderr, said };
    },
  };
}

test('without a daemon, and with an interval that is none, it says so', async context => {
  const home = createTestHome(context);
  const none = await home.run(['stats', '--watch']);
  assert.equal(none.exitCode, 1);
  assert.match(none.stderr, /^imgstore: Cannot watch .*: no daemon runs\. mount and run start one/);
  assert.equal(none.stdout, '');
  for (const interval of ['0', '0.01', '3601', 'x', '1e1', '-1']) {
    const { exitCode } = await home.run(['stats', '--watch', `--interval=${interval}`]);
    assert.equal(exitCode, 2, interval);
  }
  assert.equal((await home.run(['stats', '--interval', '1'])).exitCode, 2);
});

test('on a terminal it draws in place, within 80 columns, and Ctrl-C ends it in order', async context => {
  const home = createTestHome(context);
  await mounted(home);
  const command = [process.execPath, launcher, 'stats', '--watch', '--interval', '0.2'];
  const over = home.path('over');
  const { child, result } = startCommand('python3', [onTerminal, over, ...command], {
    env: { ...home.environment(), TERM: 'xterm' },
  });
  let drawn = '';
  child.stdout!.on('data', (part: Buffer) => {
    drawn += part.toString();
  });
  await waitUntil('it is drawn twice', () => drawn.split('memory').length > 2);
  readFileSync(home.path('mnt', 'srv', 'noise'));
  await waitUntil('the reads are seen', () => /\nstore +[1-9.]/.test(drawn));
  writeFileSync(over, '');
  const { exitCode, stdout, stderr } = await result;
  assert.equal(exitCode, 0, stdout + stderr);
  const frames = stdout.split(/\r\u001b\[\d+A/);
  assert.ok(frames.length >= 3, `${frames.length} frames`);
  assert.ok(stdout.startsWith('\u001b[?25l'));
  assert.match(stdout, /\u001b\[\?25h[^\u001b]*$/, 'the cursor is back');
  const plain = (text: string) => text.replace(/\u001b\[[?0-9;]*[A-Za-z]/g, '');
  for (const frame of frames.slice(1)) {
    const lines = plain(frame).split('\r\n');
    assert.ok(lines.length <= 24);
    for (const line of lines) assert.ok(line.length < 80, line);
  }
  const text = plain(frames.join(''));
  for (const seen of [/daemon \d+ {2}up/, /disk cache/, /^l1 /m, /^store /m, /small:latest/]) {
    assert.match(text, seen);
  }
  assert.match(text, /^store +[1-9.]/m, 'the reads were seen');
});

test('through a pipe it is a line every time', async context => {
  const home = createTestHome(context);
  await mounted(home);
  const watch = watching(home, []);
  await watch.until(/(\n.*reads\/s.*){2}/);
  const { exitCode, stderr, said } = await watch.interrupt();
  assert.equal(exitCode, 0);
  assert.equal(stderr, '');
  assert.doesNotMatch(said, /\u001b/);
  const [first, ...lines] = said.trimEnd().split('\n');
  assert.match(first!, /^\d\d:\d\d:\d\d Watching daemon \d+$/);
  for (const line of lines) {
    assert.match(line, /^\d\d:\d\d:\d\d 1 mount \d.* reads\/s \| memory .* \| l1 .* \| store /);
  }
});

test('with --json it is a document a line, and a daemon that is replaced is said', async context => {
  const home = createTestHome(context);
  await home.runChecked(['daemon', 'start']);
  const watch = watching(home, ['--json']);
  await watch.until(/"intervalSeconds"/);
  await home.runChecked(['daemon', 'stop']);
  await watch.until(/No daemon runs/);
  await home.runChecked(['daemon', 'start']);
  await watch.until(/has been started(.|\n)*"intervalSeconds"/);
  const { exitCode, said } = await watch.interrupt();
  assert.equal(exitCode, 0);
  const documents = said
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line) as Record<string, unknown>);
  const notices = documents.filter(({ notice }) => notice !== undefined);
  assert.equal(notices.length, 3, 'watching, gone, started');
  const pids = new Set(documents.map(({ daemonPid }) => daemonPid));
  assert.equal(pids.size, 3, 'two daemons, and none');
  const rates = documents.find(({ intervalSeconds }) => intervalSeconds !== undefined)!;
  assert.ok(Number(rates['intervalSeconds']) >= 0.09);
  const tiers = rates['tiers'] as { tier: string }[];
  assert.deepEqual(
    tiers.map(({ tier }) => tier).filter(tier => tier !== 'store'),
    ['l1'],
  );
  assert.ok(!Number.isNaN(Date.parse(String(rates['time']))));
});

test('it ends while the daemon does not answer', async context => {
  const home = createTestHome(context);
  await home.runChecked(['daemon', 'start']);
  const { stdout } = await home.runChecked(['daemon', 'status', '--json']);
  const { pid } = JSON.parse(stdout) as { pid: number };
  const watch = watching(home, []);
  await watch.until(/reads\/s/);
  process.kill(pid, 'SIGSTOP');
  try {
    await new Promise(resolve => setTimeout(resolve, 300));
    assert.equal((await watch.interrupt()).exitCode, 0);
  } finally {
    process.kill(pid, 'SIGCONT');
  }
});
