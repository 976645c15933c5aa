/**
 * The one error type that this program throws for a fault that is not its own.
 *
 * A message says what was tried on what and why it did not work ("Cannot open recipe X: …"); the
 * hint says what to do. Neither ever carries key material. Bugs throw AssertionError instead.
 */

export type ErrorCode =
  /** The command line or a setting is wrong. */
  | 'USAGE'
  /** What was named is not there. */
  | 'NOT_FOUND'
  /** Bytes are not what their digest, tag or format says. */
  | 'CORRUPT'
  /** Well-formed, but of a kind or version that this program does not handle. */
  | 'UNSUPPORTED'
  /** A named limit was passed; see limits.ts. */
  | 'LIMIT'
  /** In use, or already there. */
  | 'BUSY'
  /** The wrong key, or none. */
  | 'KEY'
  /** The operating system refused: no space, no permission, read-only, not there any more. */
  | 'IO'
  /** A service or tool that is needed does not answer or is not installed. */
  | 'UNAVAILABLE';

export class ImgstoreError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'ImgstoreError';
    this.code = code;
    this.hint = options.hint;
  }
}

export function hasCode(error: unknown, codes: readonly ErrorCode[]): error is ImgstoreError {
  return error instanceof ImgstoreError && codes.includes(error.code);
}

/** Of one object, while the store goes on answering. IO: its place on the disk cannot be read. */
export function isObjectDamage(error: unknown): error is ImgstoreError {
  return hasCode(error, ['CORRUPT', 'UNSUPPORTED', 'LIMIT', 'IO']);
}

/**
 * File systems on a network or a failing disk give errors that libuv, and so Node, has no name for:
 * their code is "Unknown system error -116". Numbers as in Linux' asm-generic/errno.h.
 */
const unnamedErrnos: Readonly<Record<string, string>> = {
  74: 'EBADMSG',
  116: 'ESTALE',
  117: 'EUCLEAN',
  123: 'ENOMEDIUM',
};

/** The errno name (`ENOENT`, …; `E129` for want of one) of an operating-system error, or undefined. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || error instanceof ImgstoreError) return undefined;
  const { code } = error as NodeJS.ErrnoException;
  if (typeof code !== 'string') return undefined;
  const number = /^Unknown system error -([0-9]+)$/.exec(code)?.[1];
  if (number !== undefined) return unnamedErrnos[number] ?? `E${number}`;
  return /^E[A-Z0-9]+$/.test(code) ? code : undefined;
}

const ioStates: Readonly<Record<string, readonly [state: string, hint: string]>> = {
  ENOENT: ['no such file or directory', 'Check the path.'],
  ENOTDIR: ['a part of the path is not a directory', 'Check the path.'],
  EISDIR: ['it is a directory', 'Name a file.'],
  EACCES: ['permission denied', 'Run as a user that may, or change the permissions.'],
  EPERM: ['operation not permitted', 'Run as root.'],
  EROFS: ['the file system is read-only', 'Use a writable place.'],
  ENOSPC: ['no space left on the device', 'Free some space and run it again.'],
  EDQUOT: ['the disk quota is used up', 'Free some space and run it again.'],
  EMFILE: ['too many open files', 'Raise the limit (ulimit -n).'],
  EBUSY: ['it is in use', 'Stop what uses it, then run it again.'],
  ENAMETOOLONG: ['the name is too long', 'Use a shorter one.'],
  EADDRINUSE: ['the address is in use', 'Use another port, or end what has it.'],
  EADDRNOTAVAIL: ['this machine does not have that address', 'Use one of its own.'],
};

/**
 * An operating-system error as an ImgstoreError, anything else as it is.
 * `what` is "Cannot <do> <what>", without a colon.
 */
export function ioError(what: string, error: unknown): unknown {
  const errno = errnoOf(error);
  if (errno === undefined) return error;
  const [state, hint] = ioStates[errno] ?? [`the system says ${errno}`, 'See errno(3).'];
  return new ImgstoreError('IO', `${what}: ${state}`, { hint, cause: error });
}

/** One line for people: the message, then the hint. */
export function describeError(error: unknown): string {
  const line =
    error instanceof ImgstoreError && error.hint !== undefined
      ? `${error.message}. ${error.hint}`
      : error instanceof Error
        ? error.message
        : String(error);
  // Names in messages come from images and may hold anything; one error is one line.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is replaced
  return line.replace(/[\u0000-\u001f\u007f-\u009f]+/g, '?');
}
