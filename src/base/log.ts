/**
 * Log lines of the daemon and warnings of commands: one line each, on stderr or a file, never on
 * stdout, never with a secret. Passed in, not global.
 */
export type LogLevel = 'info' | 'warn' | 'error';

export type Log = (level: LogLevel, message: string) => void;

/** Lines of `TIME LEVEL MESSAGE`; `now` is passed in so that tests can hold time. */
export function lineLog(write: (line: string) => void, now: () => Date = () => new Date()): Log {
  return (level, message) => {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: one message is one line
    const line = message.replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ');
    write(`${now().toISOString()} ${level} ${line}\n`);
  };
}

export const silentLog: Log = () => {};
