/** A file system of a test's own that misbehaves as it is told: a disk under a worker's cache. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { waitUntil } from './poll.ts';
import { mountsBelow, runCommand } from './processes.ts';

export type FolderFault =
  /** Every operation takes so long. */
  | { do: 'slow'; waitMs: number }
  /** Every operation fails so. */
  | { do: 'fail'; code: 'EIO' | 'ESTALE' }
  /** A bit of every read is another. */
  | { do: 'lie' }
  /** Operations wait until the fault ends. */
  | { do: 'hang' };

const script = join(import.meta.dirname, 'faulty-folder.py');

export class FaultyFolder {
  /** What is in it, as it was written. */
  readonly source: string;
  readonly #control: string;
  readonly #mountPoint: string;
  #child: ChildProcess | undefined;

  private constructor(folder: string, mountPoint: string) {
    this.source = join(folder, 'source');
    this.#control = join(folder, 'control');
    this.#mountPoint = mountPoint;
    mkdirSync(this.source, { recursive: true });
    mkdirSync(mountPoint, { recursive: true });
    this.fault = undefined;
  }

  /** Mounted at `mountPoint`, with what it needs in `folder`; `mount` may put a disk below it. */
  static async start(
    folder: string,
    mountPoint: string,
    mount: (source: string) => Promise<unknown> = async () => {},
  ): Promise<FaultyFolder> {
    const faulty = new FaultyFolder(folder, mountPoint);
    await mount(faulty.source);
    faulty.#serve();
    await waitUntil('the file system is mounted', () => {
      if (faulty.#child!.exitCode !== null) throw new Error('the file system has ended');
      return mountsBelow(mountPoint).length > 0;
    });
    return faulty;
  }

  set fault(fault: FolderFault | undefined) {
    const written = `${this.#control}.new`;
    writeFileSync(written, describe(fault));
    renameSync(written, this.#control);
  }

  /** Operations under way fail. */
  async close(): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    const isEnded = child.exitCode !== null || child.signalCode !== null;
    const ended = isEnded ? undefined : once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
    await runCommand('umount', ['--lazy', this.#mountPoint]);
  }

  #serve(): void {
    // Debian's own Python, for Debian's fusepy.
    const python = '/usr/bin/python3';
    const args = [script, this.source, this.#mountPoint, this.#control];
    this.#child = spawn('setpriv', ['--pdeathsig', 'KILL', python, ...args], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  }
}

function describe(fault: FolderFault | undefined): string {
  if (fault === undefined) return '';
  if (fault.do === 'slow') return `slow ${fault.waitMs}`;
  return fault.do === 'fail' ? `fail ${fault.code}` : fault.do;
}
