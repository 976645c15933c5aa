/** Packages of npm as a lock file names them, by this machine's own npm and registry. */

import { readFileSync } from 'node:fs';
import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { runChecked } from '../../test/support/processes.ts';

const timeoutMs = 10 * 60_000;

export function lockText(name: string): string {
  return readFileSync(join(folderOf(name), 'package-lock.json'), 'utf8');
}

/** Their own scripts do not run: nothing of this machine's Node gets into the image. */
export async function installLocked(name: string, dir: string): Promise<void> {
  await mkdir(dir, { recursive: true });
  await cp(folderOf(name), dir, { recursive: true, force: true });
  const options = ['--ignore-scripts', '--omit=dev', '--no-audit', '--no-fund', '--loglevel=error'];
  await runChecked('npm', ['ci', ...options], { cwd: dir, timeoutMs });
}

function folderOf(name: string): string {
  return join(import.meta.dirname, 'npm', name);
}
