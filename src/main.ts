/**
 * The command line: verb → command file → data → text or JSON, and errors → one line on stderr and
 * an exit status: 0 done, 1 failed, 2 wrong usage. Verbs are loaded when they are called, since
 * start time is part of every mount.
 */

import type { ParseArgsOptionsConfig } from 'node:util';
import { describeError, ImgstoreError, ioError } from './base/errors.ts';
import { lineLog } from './base/log.ts';
import { loadSettings } from './base/settings.ts';
import {
  type Command,
  type CommandContext,
  type CommandResult,
  commonOptions,
  helpPage,
  usageError,
} from './cli/command.ts';
import { barProgress, lineProgress, noProgress, type Progress } from './cli/progress.ts';
import { verbs } from './cli/verbs.ts';

/** Not by `import`, which reads every export of the module: 5 ms of each start, for one function. */
const { parseArgs } = process.getBuiltinModule('node:util');

interface Parsed {
  positionals: string[];
  rest: string[];
  values: Record<string, string | boolean | undefined>;
}

function parse(verb: string, command: Command, argv: readonly string[]): Parsed {
  const separator = argv.indexOf('--');
  const rest = separator === -1 ? [] : argv.slice(separator + 1);
  const before = separator === -1 ? argv : argv.slice(0, separator);
  const hint = `See imgstore ${verb} --help`;
  const options: ParseArgsOptionsConfig = {};
  for (const [name, spec] of Object.entries({ ...command.options, ...commonOptions })) {
    options[name] =
      spec.short === undefined ? { type: spec.type } : { type: spec.type, short: spec.short };
  }
  let parsed: { positionals: string[]; values: Parsed['values'] };
  try {
    parsed = parseArgs({ args: [...before], options, allowPositionals: true }) as typeof parsed;
  } catch (error) {
    const reason = (error as Error).message.split('. ')[0]!;
    throw usageError(`Cannot run ${verb}: ${reason}`, hint);
  }
  for (const [name, value] of Object.entries(parsed.values)) {
    if (value === '') throw usageError(`Cannot run ${verb}: --${name} is empty`, hint);
  }
  if (parsed.values['help'] === true) return { ...parsed, rest };
  const { min, max } = command.positionals;
  const count = parsed.positionals.length;
  if (count < min) throw usageError(`Cannot run ${verb}: an argument is missing`, hint);
  if (count > max) {
    throw usageError(
      `Cannot run ${verb}: too many arguments, from "${parsed.positionals[max]}" on`,
      hint,
    );
  }
  if (rest.length > 0 && command.takesRest !== true) {
    throw usageError(`Cannot run ${verb}: it takes nothing behind --`, hint);
  }
  return { ...parsed, rest };
}

async function makeProgress(quiet: boolean): Promise<Progress> {
  if (quiet) return noProgress;
  if (process.stderr.isTTY) return barProgress(process.stderr);
  return lineProgress(line => process.stderr.write(line));
}

function abortOnSignals(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      controller.abort(new ImgstoreError('IO', `Stopped by ${signal}`, { hint: 'Run it again.' }));
    });
  }
  return controller.signal;
}

async function runVerb(verb: string, command: Command, argv: readonly string[]): Promise<number> {
  const { positionals, rest, values } = parse(verb, command, argv);
  if (values['help'] === true) {
    process.stdout.write(`${helpPage(verb, command)}\n`);
    return 0;
  }
  const option = (name: string) => {
    const value = values[name];
    return typeof value === 'string' ? value : undefined;
  };
  const json = values['json'] === true;
  const quiet = values['quiet'] === true;
  const progress = await makeProgress(quiet);
  const signal = abortOnSignals();
  const printResult = (result: CommandResult) => {
    progress.end();
    print(result, { json, quiet });
  };
  const context: CommandContext = {
    positionals,
    rest,
    settings: loadSettings({ home: option('home'), store: option('store') }, process.env),
    env: process.env,
    progress,
    log: lineLog(line => process.stderr.write(line)),
    json,
    signal,
    now: () => new Date(),
    print: printResult,
    flag: name => values[name] === true,
    option,
  };
  try {
    const result = await command.run(context);
    printResult(result);
    if (result.failure !== undefined) fail(result.failure);
    return result.exitStatus ?? 0;
  } catch (error) {
    // What a stopped call rejects with differs by call; the reason is one.
    if (signal.aborted && !(error instanceof ImgstoreError)) throw signal.reason;
    throw error;
  } finally {
    progress.end();
  }
}

function print(result: CommandResult, { json, quiet }: { json: boolean; quiet: boolean }): void {
  if (json && result.data !== undefined) {
    process.stdout.write(`${JSON.stringify(result.data, undefined, 2)}\n`);
  } else if (!json && !quiet && result.text !== undefined && result.text !== '') {
    process.stdout.write(`${result.text}\n`);
  }
}

async function overview(): Promise<string> {
  const lines = await Promise.all(
    Object.entries(verbs).map(async ([verb, load]) => {
      const { command } = await load();
      return `  ${verb.padEnd(8)} ${command.summary}`;
    }),
  );
  return [
    'Usage: imgstore VERB [OPTION…] [ARGUMENT…]',
    '',
    'A content-addressed, lazy-loading container image store.',
    '',
    ...lines,
    '',
    'imgstore VERB --help shows a page about the verb.',
  ].join('\n');
}

async function version(): Promise<string> {
  const { readFile } = await import('node:fs/promises');
  const text = await readFile(new URL('../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

async function main(argv: readonly string[]): Promise<number> {
  // `help VERB` is the page of the verb.
  const asked = argv[0] === 'help' && argv.length > 1 ? [argv[1]!, '--help'] : argv;
  const [verb, ...rest] = asked;
  if (verb === undefined || verb === '--help' || verb === '-h' || verb === 'help') {
    process.stdout.write(`${await overview()}\n`);
    return verb === undefined ? 2 : 0;
  }
  if (verb === '--version' || verb === '-V') {
    process.stdout.write(`${await version()}\n`);
    return 0;
  }
  const load = Object.hasOwn(verbs, verb) ? verbs[verb] : undefined;
  if (load === undefined) {
    throw usageError(`Cannot run "${verb}": there is no such verb`, 'See imgstore --help');
  }
  const { command } = await load();
  return runVerb(verb, command, rest);
}

/** Status 1, or 2 for wrong usage; a line for people, a stack only for a bug that is being hunted. */
function fail(error: unknown): number {
  const bug = !(error instanceof ImgstoreError);
  const prefix = bug ? 'imgstore: internal error: ' : 'imgstore: ';
  process.stderr.write(`${prefix}${describeError(error)}\n`);
  if (bug && process.env['IMGSTORE_DEBUG'] !== undefined && error instanceof Error) {
    process.stderr.write(`${error.stack}\n`);
  }
  return !bug && error.code === 'USAGE' ? 2 : 1;
}

process.stdout.on('error', error => {
  // Who reads our output may stop reading; that is no fault of ours.
  if ((error as NodeJS.ErrnoException).code === 'EPIPE') process.exit(process.exitCode ?? 0);
  process.exit(fail(ioError('Cannot write the output', error)));
});

process.stderr.on('error', () => {}); // the one who started a daemon does not listen for long

process.exitCode = await main(process.argv.slice(2)).catch(fail);
