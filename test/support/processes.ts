/**
 * Commands as tests and benches run them: every one bounded in time and output, and imgstore itself
 * in a home of the test's own that leaves nothing behind, whatever the test did.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const launcher = join(import.meta.dirname, '..', '..', 'src', 'imgstore.mjs');

const outputMaxBytes = 64 * 1024 * 1024;
const commandTimeoutMs = 60_000;
const endingTimeoutMs = 10_000;

export interface CommandOptions {
  cwd?: string;
  /** The whole environment; the test's own by default. */
  env?: NodeJS.ProcessEnv;
  /** Standard input; empty by default. */
  input?: string | Uint8Array;
  timeoutMs?: number;
}

export interface CommandResult {
  /** Undefined if a signal ended it. */
  exitCode: number | undefined;
  signal: NodeJS.Signals | undefined;
  stdout: string;
  stderr: string;
}

export interface RunningCommand {
  child: ChildProcess;
  /** Rejects only if the command cannot be started, or passes its time or output. */
  result: Promise<CommandResult>;
}

/** Starts a command in a process group of its own, which is killed as a whole at its time-out. */
export function startCommand(
  file: string,
  args: readonly string[],
  options: CommandOptions = {},
): RunningCommand {
  const child = spawn(file, args, {
    cwd: options.cwd,
    env: options.env ?? process.env,
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true,
  });
  return { child, result: collect(child, [file, ...args].join(' '), options) };
}

export function runCommand(
  file: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  return startCommand(file, args, options).result;
}

/** As runCommand, but anything but exit status 0 is an error that shows what the command said. */
export async function runChecked(
  file: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const result = await runCommand(file, args, options);
  if (result.exitCode === 0) return result;
  const command = [file, ...args].join(' ').slice(0, 500);
  throw new Error(`${command}: ${describeEnd(result)}\n${tail(result.stdout + result.stderr)}`);
}

export function describeEnd(result: CommandResult): string {
  return result.signal !== undefined
    ? `ended by ${result.signal}`
    : `exit status ${result.exitCode}`;
}

function collect(
  child: ChildProcess,
  command: string,
  options: CommandOptions,
): Promise<CommandResult> {
  const timeoutMs = options.timeoutMs ?? commandTimeoutMs;
  const { stdin, stdout, stderr } = child;
  if (stdin === null || stdout === null || stderr === null) throw new Error('pipes are missing');
  return new Promise((resolve, reject) => {
    const chunks: { out: Buffer[]; err: Buffer[] } = { out: [], err: [] };
    let outputBytes = 0;
    let broken: Error | undefined;
    const breakOff = (why: string): void => {
      if (broken !== undefined) return;
      const said = tail(Buffer.concat([...chunks.out, ...chunks.err]).toString());
      broken = new Error(`${command.slice(0, 500)}: ${why}\n${said}`);
      killGroup(child);
      // A grandchild outside of the group may still hold the pipes.
      stdout.destroy();
      stderr.destroy();
    };
    const timer = setTimeout(() => breakOff(`not done after ${timeoutMs} ms`), timeoutMs);
    const gather = (into: Buffer[]) => (bytes: Buffer) => {
      outputBytes += bytes.length;
      if (outputBytes > outputMaxBytes) breakOff(`more than ${outputMaxBytes} bytes of output`);
      else into.push(bytes);
    };
    stdout.on('data', gather(chunks.out));
    stderr.on('data', gather(chunks.err));
    stdin.on('error', () => {}); // EPIPE: the command need not read its input.
    stdin.end(options.input ?? '');
    child.on('error', error => {
      clearTimeout(timer);
      reject(error);
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      if (broken !== undefined) return reject(broken);
      resolve({
        exitCode: code ?? undefined,
        signal: signal ?? undefined,
        stdout: Buffer.concat(chunks.out).toString(),
        stderr: Buffer.concat(chunks.err).toString(),
      });
    });
  });
}

function killGroup(child: ChildProcess): void {
  try {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

function tail(text: string): string {
  return text.slice(-4000);
}

/** The mount points below a folder, and it, deepest and latest first. */
export function mountsBelow(dir: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'latin1')
    .split('\n')
    .filter(line => line !== '')
    .map(line => Buffer.from(unescapeOctal(line.split(' ')[4]!), 'latin1').toString())
    .filter(point => point === dir || point.startsWith(`${dir}/`))
    .reverse();
}

function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}

export interface ImgstoreOptions extends Omit<CommandOptions, 'env'> {
  /** Added to the environment. */
  env?: NodeJS.ProcessEnv;
}

/**
 * A folder with an IMGSTORE_HOME in it. When it is closed, the daemon is stopped, what is still
 * mounted below the folder is unmounted lazily, and the folder is removed.
 */
export class TestHome implements AsyncDisposable {
  /** For everything of the test: mount points, images. */
  readonly dir = mkdtempSync(join(tmpdir(), 'imgstore-test-'));
  /** IMGSTORE_HOME; imgstore makes it. */
  readonly home = join(this.dir, 'home');
  readonly #endingTimeoutMs: number;

  /** `endingTimeoutMs`: what a daemon may take to stop, or a killed process to be gone. */
  constructor(options: { endingTimeoutMs?: number } = {}) {
    this.#endingTimeoutMs = options.endingTimeoutMs ?? endingTimeoutMs;
  }

  path(...parts: string[]): string {
    return join(this.dir, ...parts);
  }

  /** The environment of imgstore: the tester's own settings do not reach it. */
  environment(added: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
    const own = Object.entries(process.env).filter(([name]) => !name.startsWith('IMGSTORE_'));
    return { ...Object.fromEntries(own), IMGSTORE_HOME: this.home, ...added };
  }

  start(args: readonly string[], options: ImgstoreOptions = {}): RunningCommand {
    const env = this.environment(options.env);
    return startCommand(process.execPath, [launcher, ...args], { cwd: this.dir, ...options, env });
  }

  /** Runs `imgstore ARGS`, in the test's folder by default; any exit status is an answer. */
  run(args: readonly string[], options: ImgstoreOptions = {}): Promise<CommandResult> {
    return this.start(args, options).result;
  }

  /** Runs `imgstore ARGS`, which must succeed. */
  async runChecked(args: readonly string[], options: ImgstoreOptions = {}): Promise<CommandResult> {
    const env = this.environment(options.env);
    const command = { cwd: this.dir, ...options, env };
    return runChecked(process.execPath, [launcher, ...args], command);
  }

  /** Throws after all is cleaned up if a process outlived `imgstore daemon stop --force`. */
  async close(): Promise<void> {
    if (!existsSync(this.dir)) return;
    if (this.#processes().length > 0) {
      // Its failure shows in what is left.
      await this.run(['daemon', 'stop', '--force'], { timeoutMs: this.#endingTimeoutMs }).catch(
        () => undefined,
      );
    }
    const left = await this.#waitForEnd();
    for (const point of mountsBelow(this.dir)) {
      await runCommand('umount', ['--lazy', '--no-canonicalize', point]);
    }
    for (const { pid } of left) kill(pid);
    const unkillable = await this.#waitForEnd();
    const mounts = mountsBelow(this.dir);
    if (mounts.length > 0) throw new Error(`Cannot unmount ${mounts.join(', ')}`);
    await rm(this.dir, { recursive: true, force: true, maxRetries: 3 });
    if (left.length > 0) {
      const commands = left.map(({ pid, command }) => `${pid} (${command})`).join(', ');
      const state = unkillable.length > 0 ? 'outlives SIGKILL' : 'had to be killed';
      throw new Error(`A process of the test's home ${state}: ${commands}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Processes with this home in their environment; zombies have none. */
  #processes(): { pid: number; command: string }[] {
    const marker = `IMGSTORE_HOME=${this.home}`;
    const found = [];
    for (const name of readdirSync('/proc')) {
      if (!/^\d+$/.test(name)) continue;
      try {
        if (!readFileSync(`/proc/${name}/environ`, 'utf8').split('\0').includes(marker)) continue;
        const command = readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
        found.push({ pid: Number(name), command });
      } catch {
        // It has ended since.
      }
    }
    return found;
  }

  async #waitForEnd(): Promise<{ pid: number; command: string }[]> {
    const deadlineMs = performance.now() + this.#endingTimeoutMs;
    for (;;) {
      const left = this.#processes();
      if (left.length === 0 || performance.now() > deadlineMs) return left;
      await sleep(50);
    }
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended since.
  }
}

/** A home that is closed when the test ends, failed or not. */
export function createTestHome(context: { after(fn: () => Promise<void>): void }): TestHome {
  const home = new TestHome();
  context.after(() => home.close());
  return home;
}
