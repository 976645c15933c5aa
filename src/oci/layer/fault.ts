/**
 * A fault of one tar entry as the code that finds it can tell it: what is wrong, not where. The
 * reader and the flattener know the layer and the path and make an ImgstoreError of it.
 */

import { type ByteString, printable } from '../../base/byte-string.ts';
import { ImgstoreError } from '../../base/errors.ts';

export type FaultCode = 'CORRUPT' | 'UNSUPPORTED' | 'LIMIT';

const hints: Readonly<Record<FaultCode, string>> = {
  CORRUPT: 'The layer is damaged or was made by a faulty tool; build the image again.',
  UNSUPPORTED: 'Build the image again without it.',
  LIMIT: 'Such layers are refused on purpose: they could exhaust this machine.',
};

export class EntryFault extends Error {
  readonly code: FaultCode;

  /** `state` follows a colon: "its size is negative". */
  constructor(code: FaultCode, state: string) {
    super(state);
    this.name = 'EntryFault';
    this.code = code;
  }
}

/** `error` with its place if it is an EntryFault, else as it is. */
export function located(place: string, error: unknown): unknown {
  if (!(error instanceof EntryFault)) return error;
  const hint = hints[error.code];
  return new ImgstoreError(error.code, `${place}: ${error.message}`, { hint, cause: error });
}

/** A path for a message: a hostile one may be a megabyte long. */
export function shownPath(path: ByteString): string {
  const shown = 300;
  if (path.length <= shown) return printable(path);
  return `${printable(path.slice(0, shown) as ByteString)}…`;
}
