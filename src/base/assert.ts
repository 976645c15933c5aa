/** Assertions are for bugs of this program, never for bad input: that is an ImgstoreError. */

import { AssertionError } from 'node:assert';

export function assert(condition: unknown, what: string): asserts condition {
  if (!condition) throw new AssertionError({ message: what, stackStartFn: assert });
}

/** For the default branch of a switch over a union: a compile error if a member is missing. */
export function unreachable(value: never): never {
  throw new AssertionError({ message: `unreachable: ${String(value)}`, stackStartFn: unreachable });
}
