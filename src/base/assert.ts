/**
 * Assertions are for bugs of this program, never for bad input: that is an ImgstoreError.
 *
 * node:assert is loaded when one fails: it would cost every start of a command 2 ms.
 */

export function assert(condition: unknown, what: string): asserts condition {
  if (condition) return;
  const { AssertionError } = process.getBuiltinModule('node:assert');
  throw new AssertionError({ message: what, stackStartFn: assert });
}
