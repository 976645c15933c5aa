/**
 * What a verb is: one file each, with its options, its page of help and a `run` that returns data.
 * main.ts parses, prints (as text or as JSON) and turns errors into exit statuses.
 */

import { ImgstoreError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Settings } from '../base/settings.ts';
import type { Progress } from './progress.ts';

export interface OptionSpec {
  type: 'boolean' | 'string';
  short?: string;
  /** The value's name in the help page, for strings. */
  value?: string;
  help: string;
}

export interface CommandContext {
  /** What is not an option, before `--`. */
  positionals: readonly string[];
  /** What stands behind `--`. */
  rest: readonly string[];
  settings: Settings;
  /** As the user gave it, for messages. */
  env: NodeJS.ProcessEnv;
  progress: Progress;
  /** Warnings for the user. */
  log: Log;
  json: boolean;
  /** Aborted by the first Ctrl-C or SIGTERM. */
  signal: AbortSignal;
  now: () => Date;
  /** Shows a result before `run` is done, as the one that it returns is shown. */
  print(result: CommandResult): void;
  flag(name: string): boolean;
  option(name: string): string | undefined;
}

export interface CommandResult {
  /** For `--json`. */
  data?: unknown;
  /** Otherwise; without the last line end. */
  text?: string;
  /** 0 if absent. */
  exitStatus?: number;
  /** Shown as if it had been thrown, with the exit status above. */
  failure?: ImgstoreError;
}

export interface Command {
  /** `NAME[:TAG] DIR`, for the usage line. */
  usage: string;
  /** One line for the list of verbs. */
  summary: string;
  /** The paragraphs of the help page. */
  description: string;
  options: Readonly<Record<string, OptionSpec>>;
  /** How many positionals it takes. */
  positionals: { min: number; max: number };
  /** True if it takes arguments behind `--`. */
  takesRest?: boolean;
  run(context: CommandContext): Promise<CommandResult>;
}

export const commonOptions: Readonly<Record<string, OptionSpec>> = {
  home: { type: 'string', value: 'DIR', help: 'where imgstore keeps its things ($IMGSTORE_HOME)' },
  json: { type: 'boolean', help: 'print the result as JSON' },
  quiet: { type: 'boolean', short: 'q', help: 'no progress, no result; warnings and errors only' },
  help: { type: 'boolean', short: 'h', help: 'show this page' },
};

/** For the verbs that work with a store. */
export const storeOption: Readonly<Record<string, OptionSpec>> = {
  store: {
    type: 'string',
    value: 'URL',
    help: 'a folder or s3://BUCKET/PREFIX[?endpoint=URL] ($IMGSTORE_STORE)',
  },
};

export function usageError(message: string, hint: string): ImgstoreError {
  return new ImgstoreError('USAGE', message, { hint });
}

export function helpPage(verb: string, command: Command): string {
  const options = Object.entries({ ...command.options, ...commonOptions }).map(([name, spec]) => {
    const short = spec.short === undefined ? '    ' : `-${spec.short}, `;
    const value = spec.value === undefined ? '' : ` ${spec.value}`;
    return `  ${`${short}--${name}${value}`.padEnd(26)} ${spec.help}`;
  });
  return [
    `Usage: imgstore ${verb} [OPTION…] ${command.usage}`.trimEnd(),
    '',
    command.description.trim(),
    '',
    'Options:',
    ...options,
  ].join('\n');
}
