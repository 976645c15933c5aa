/**
 * A folder for mounts of one test. Whatever the test did and wherever it failed, when it ends its
 * server processes are killed, all that is mounted below the folder is taken down, and loop devices
 * on files below it are freed. Mounts whose server is gone are unmounted lazily.
 */

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mountsBelow, runChecked, runCommand } from './processes.ts';

export interface TestMounts {
  readonly dir: string;
  /** A new folder below it. */
  folder(name: string): string;
  /** A child process that is killed when the test ends, with messages to and from it. */
  fork(script: string, args: readonly string[], options?: ForkOptions): ChildProcess;
}

export interface ForkOptions {
  env?: NodeJS.ProcessEnv;
  /** Handed down as descriptor 4; 3 carries the messages. */
  descriptor?: number;
  /** For one that is expected to crash. */
  silent?: boolean;
}

export function createTestMounts(context: { after(fn: () => Promise<void>): void }): TestMounts {
  const dir = mkdtempSync(join(tmpdir(), 'imgstore-mounts-'));
  const children: ChildProcess[] = [];
  context.after(() => takeDown(dir, children));
  return {
    dir,
    folder(name) {
      const path = join(dir, name);
      mkdirSync(path, { recursive: true });
      return path;
    },
    fork(script, args, { env, descriptor, silent } = {}) {
      const stdio = ['ignore', 'inherit', silent ? 'ignore' : 'inherit', 'ipc'] as const;
      const child = fork(script, [...args], {
        env: { ...process.env, ...env },
        stdio: descriptor === undefined ? [...stdio] : [...stdio, descriptor],
      });
      children.push(child);
      return child;
    },
  };
}

export async function killChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

async function takeDown(dir: string, children: ChildProcess[]): Promise<void> {
  // With their servers dead, no unmount can wait for an answer.
  await Promise.all(children.map(killChild));
  for (const point of mountsBelow(dir)) {
    await runCommand('umount', ['--lazy', '--no-canonicalize', point]);
  }
  for (const device of await loopDevicesBelow(dir)) await runCommand('losetup', ['-d', device]);
  const left = mountsBelow(dir);
  if (left.length > 0) throw new Error(`Cannot unmount ${left.join(', ')}`);
  await rm(dir, { recursive: true, force: true });
}

/** Loop devices whose file is below the folder. */
export async function loopDevicesBelow(dir: string): Promise<string[]> {
  const { stdout } = await runChecked('losetup', [
    '--list',
    '--noheadings',
    '-O',
    'NAME,BACK-FILE',
  ]);
  return stdout
    .split('\n')
    .map(line => line.trim().split(/\s+/))
    .filter(([, file]) => file?.startsWith(`${dir}/`))
    .map(([name]) => name!);
}
