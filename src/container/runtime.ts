/**
 * Runs and removes containers with crun or runc. The runtime keeps its state where we say, and the
 * container's id is unlike that of any other home, since cgroups are named after it.
 */

import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { access, constants } from 'node:fs/promises';
import { constants as osConstants } from 'node:os';
import { join } from 'node:path';
import { assert } from '../base/assert.ts';
import { sha256Hex } from '../base/digest.ts';
import { ImgstoreError } from '../base/errors.ts';

export interface Container {
  /** Path of crun or runc. */
  runtime: string;
  stateDirectory: string;
  bundleDirectory: string;
  id: string;
}

/** The container of a mount: its place and id follow from the mount's own folder. */
export function containerOf(runtime: string, mountFolder: string): Container {
  return {
    runtime,
    stateDirectory: join(mountFolder, 'container'),
    bundleDirectory: join(mountFolder, 'bundle'),
    id: `imgstore-${sha256Hex(Buffer.from(mountFolder)).slice(0, 16)}`,
  };
}

const forwardedSignals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const;

/** So many SIGINTs and SIGTERMs mean it: then a program that handles them is ended too. */
const requestsMax = 3;

/** The path of crun or runc; crun first, since it starts faster. */
export async function findRuntime(searchPath: string): Promise<string> {
  // crun 1.8 refuses the hybrid cgroup layout (v1 controllers with v2 at unified/); runc does not.
  const hybrid = existsSync('/sys/fs/cgroup/unified/cgroup.procs');
  for (const name of hybrid ? ['runc', 'crun'] : ['crun', 'runc']) {
    for (const directory of [...searchPath.split(':'), '/usr/sbin', '/usr/bin']) {
      if (directory === '') continue;
      const path = join(directory, name);
      try {
        await access(path, constants.X_OK);
        return path;
      } catch {
        // The next directory may have it.
      }
    }
  }
  throw new ImgstoreError('UNAVAILABLE', 'Cannot run a container: neither crun nor runc is there', {
    hint: 'Install one: apt-get install crun',
  });
}

/**
 * Runs the bundle to its end with this process's stdin, stdout and stderr, and passes on signals.
 * Resolves to the exit status of the container's process, 128 + n if a signal ended it.
 */
export async function runContainer(container: Container): Promise<number> {
  const { runtime, stateDirectory, bundleDirectory, id } = container;
  const pidFile = join(bundleDirectory, 'pid');
  const args = ['--root', stateDirectory, 'run', '--bundle', bundleDirectory, '--pid-file'];
  const child = spawn(runtime, [...args, pidFile, id], { stdio: 'inherit' });
  let endedBy: NodeJS.Signals | undefined;
  let requests = 0;
  const forward = (signal: NodeJS.Signals) => {
    if (signal === 'SIGINT' || signal === 'SIGTERM') requests++;
    if (requests >= requestsMax || wouldIgnore(pidFile, signal)) {
      endedBy = signal;
      killByPidFile(pidFile);
    } else child.kill(signal);
  };
  for (const signal of forwardedSignals) process.on(signal, forward);
  try {
    return await new Promise<number>((resolve, reject) => {
      child.on('error', cause => {
        const what = `Cannot run ${runtime}: ${cause.message}`;
        reject(new ImgstoreError('UNAVAILABLE', what, { hint: 'Install crun or runc.', cause }));
      });
      child.on('exit', (status, signal) => {
        if (endedBy !== undefined) resolve(128 + osConstants.signals[endedBy]);
        else resolve(status ?? 128 + osConstants.signals[signal!]);
      });
    });
  } finally {
    for (const signal of forwardedSignals) process.off(signal, forward);
  }
}

/**
 * True if the signal would end the container's process, were it not process 1 there: the kernel
 * drops what that one has no handler for, so `sleep` could not be stopped by Ctrl-C.
 */
function wouldIgnore(pidFile: string, signal: NodeJS.Signals): boolean {
  try {
    const status = readFileSync(`/proc/${readPid(pidFile)}/status`, 'utf8');
    const bit = 1n << BigInt(osConstants.signals[signal] - 1);
    return ['SigCgt', 'SigIgn', 'SigBlk'].every(field => {
      const mask = new RegExp(`^${field}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1];
      return mask !== undefined && (BigInt(`0x${mask}`) & bit) === 0n;
    });
  } catch {
    return false; // not started yet, or ended: the runtime knows
  }
}

function killByPidFile(pidFile: string): void {
  try {
    process.kill(readPid(pidFile), 'SIGKILL');
  } catch {
    // It has ended.
  }
}

function readPid(pidFile: string): number {
  const text = readFileSync(pidFile, 'utf8');
  assert(/^[1-9][0-9]*\s*$/.test(text), 'the runtime writes a process id');
  return Number(text);
}

/** Kills what still runs in the container and forgets it; nothing to do is fine. */
export async function deleteContainer(container: Container): Promise<void> {
  const args = ['--root', container.stateDirectory, 'delete', '--force', container.id];
  if (!existsSync(join(container.stateDirectory, container.id))) return;
  const child = spawn(container.runtime, args, { stdio: 'ignore' });
  await new Promise<void>(resolve => {
    child.on('error', () => resolve());
    child.on('exit', () => resolve());
  });
}
