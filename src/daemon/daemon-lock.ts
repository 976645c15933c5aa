/**
 * One daemon a home: an flock(2) that the kernel gives back when the process ends, however it
 * ends. Node has no flock, and a lock file with a pid in it can lie.
 */

import { closeSync, openSync } from 'node:fs';
import koffi from 'koffi';
import { ioError } from '../base/errors.ts';

const lockExclusive = 2;
const lockNonBlocking = 4;

/** A release function, or undefined if another process holds the lock. */
export function takeLock(path: string): (() => void) | undefined {
  let descriptor: number;
  try {
    descriptor = openSync(path, 'a', 0o600);
  } catch (error) {
    throw ioError(`Cannot open ${path}`, error);
  }
  const flock = koffi.load('libc.so.6').func('int flock(int fd, int operation)');
  if (flock(descriptor, lockExclusive | lockNonBlocking) === 0) return () => closeSync(descriptor);
  closeSync(descriptor);
  return undefined;
}
