/** A folder of a test's own, and file systems mounted in it; all gone when the test ends. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mountsBelow, runChecked, runCommand } from './processes.ts';

export function temporaryFolder(context: { after(fn: () => Promise<void>): void }): string {
  const folder = mkdtempSync(join(tmpdir(), 'imgstore-test-'));
  context.after(async () => {
    for (const point of mountsBelow(folder)) await runCommand('umount', ['--lazy', point]);
    rmSync(folder, { recursive: true, force: true });
  });
  return folder;
}

export async function mountTmpfs(folder: string, sizeBytes: number): Promise<void> {
  await runChecked('mount', ['-t', 'tmpfs', '-o', `size=${sizeBytes}`, 'tmpfs', folder]);
}

/** The folder itself as a mount of its own that is read-only. */
export async function mountReadOnly(folder: string): Promise<void> {
  await runChecked('mount', ['--bind', folder, folder]);
  await runChecked('mount', ['-o', 'remount,bind,ro', folder]);
}

export async function unmount(folder: string): Promise<void> {
  await runChecked('umount', [folder]);
}
