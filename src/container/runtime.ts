/** Runs and removes containers with crun or runc. The runtime keeps its state where we say. */

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { access, constants } from 'node:fs/promises';
import { constants as osConstants } from 'node:os';
import { join } from 'node:path';
import { ImgstoreError } from '../base/errors.ts';

export interface Container {
  /** Path of crun or runc. */
  runtime: string;
  stateDirectory: string;
  id: string;
}

const forwardedSignals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const;

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
export function runContainer(container: Container, bundleDirectory: string): Promise<number> {
  const args = ['--root', container.stateDirectory, 'run', '--bundle', bundleDirectory];
  const child = spawn(container.runtime, [...args, container.id], { stdio: 'inherit' });
  const forward = (signal: NodeJS.Signals) => child.kill(signal);
  for (const signal of forwardedSignals) process.on(signal, forward);
  return new Promise<number>((resolve, reject) => {
    child.on('error', cause => {
      const what = `Cannot run ${container.runtime}: ${cause.message}`;
      reject(new ImgstoreError('UNAVAILABLE', what, { hint: 'Install crun or runc.', cause }));
    });
    child.on('exit', (status, signal) => resolve(status ?? 128 + signalNumber(signal)));
  }).finally(() => {
    for (const signal of forwardedSignals) process.off(signal, forward);
  });
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

function signalNumber(signal: NodeJS.Signals | null): number {
  return signal === null ? 0 : osConstants.signals[signal];
}
