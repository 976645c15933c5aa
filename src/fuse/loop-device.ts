/**
 * Read-only loop devices with direct I/O, through losetup(8) of util-linux. Without direct I/O a
 * loop device keeps every page twice and serves one read at a time.
 */

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { errnoOf, ImgstoreError } from '../base/errors.ts';

const run = promisify(execFile);
const timeoutMs = 60_000;

/**
 * Makes one and returns its path. It is as busy as a mount of its own: losetup opens the file,
 * which the FUSE server of this process may have to answer.
 */
export async function attachLoop(filePath: string): Promise<string> {
  const args = ['--read-only', '--direct-io=on', '--find', '--show', filePath];
  const device = (await losetup(args, `Cannot make a loop device of ${filePath}`)).trim();
  if (/^\/dev\/loop[0-9]+$/.test(device)) return device;
  throw new ImgstoreError('IO', `Cannot make a loop device of ${filePath}: losetup named none`);
}

/** Frees it: now, or if it is mounted, when the last mount of it goes. */
export async function detachLoop(device: string): Promise<void> {
  await losetup(['--detach', device], `Cannot free ${device}`);
}

async function losetup(args: string[], what: string): Promise<string> {
  try {
    const { stdout } = await run('losetup', args, { timeout: timeoutMs, encoding: 'utf8' });
    return stdout;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') {
      const hint = 'Install util-linux.';
      throw new ImgstoreError('UNAVAILABLE', `${what}: losetup is not installed`, { hint });
    }
    const said = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : '';
    const hint = 'Run as root, with the loop module loaded (modprobe loop).';
    throw new ImgstoreError('IO', `${what}: ${said || 'losetup failed'}`, { hint, cause: error });
  }
}
