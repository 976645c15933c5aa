/** The launcher: what it says to a Node that is too old, and that it starts quickly otherwise. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { runCommand } from './support/processes.ts';

const launcher = join(import.meta.dirname, '..', 'src', 'imgstore.mjs');

test('an old Node is refused in one line that says what to do', async () => {
  const pretend = `data:text/javascript,
    Object.defineProperty(process, 'versions', { value: { node: '22.19.0' } })`;
  const result = await runCommand(process.execPath, ['--import', pretend, launcher, '--version']);
  assert.equal(result.exitCode, 1);
  assert.equal(result.stdout, '');
  const line = /^imgstore: Cannot run on Node 22\.19\.0: Node 24 or newer is needed\. .*npx.*\n$/;
  assert.match(result.stderr, line);
});

test('a Node that is new enough starts the command, and arguments pass through', async () => {
  const result = await runCommand(process.execPath, [launcher, '--version']);
  const { version } = JSON.parse(readFileSync(join(launcher, '../../package.json'), 'utf8'));
  assert.deepEqual([result.exitCode, result.stdout, result.stderr], [0, `${version}\n`, '']);
});

test('the launcher imports nothing before the version is known', () => {
  // A static import of what an old Node lacks would fail before the launcher's first line runs.
  assert.doesNotMatch(readFileSync(launcher, 'utf8'), /^(import\b(?! *\()|export\b|await\b)/m);
});
