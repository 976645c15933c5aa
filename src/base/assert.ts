/**
 * Assertions are for bugs of this program, never for bad input: that is an ImgstoreError.
 *
 * node:assert is loaded when one fails: it would cost every start of a command 2 ms.
 */

export function assert(condition: unknown, what: string): asserts condition {
  if (!condition) throw failed(what, assert);
}

/** For the default branch of a switch over a union: a compile error if a member is missing. */
export function unreachable(value: never): never {
  throw failed(`unreachable: ${String(value)}`, unreachable);
}

function failed(message: string, stackStartFn: typeof assert | typeof unreachable): Error {
  const { AssertionError } = process.getBuiltinModule('node:assert');
  return new AssertionError({ message, stackStartFn });
}
