/** Functions of a child process, called over its channel; the child ends with the test. */

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';

interface Call {
  number: number;
  name: string;
  parameters: readonly unknown[];
}

interface Answer {
  number: number;
  value?: unknown;
  error?: string;
}

export class RemoteProcess {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #calls = 0;

  constructor(script: string, env: NodeJS.ProcessEnv = {}) {
    this.#child = fork(script, [], { env: { ...process.env, ...env } });
    this.#child.on('message', ({ number, value, error }: Answer) => {
      const call = this.#waiting.get(number)!;
      this.#waiting.delete(number);
      if (error === undefined) call.resolve(value);
      else call.reject(new Error(error));
    });
    this.#child.on('exit', () => {
      for (const call of this.#waiting.values()) call.reject(new Error(`${script} has ended`));
    });
  }

  /** What the function gives; JSON both ways. */
  call(name: string, ...parameters: readonly unknown[]): Promise<unknown> {
    const call = Promise.withResolvers<unknown>();
    const number = this.#calls++;
    this.#waiting.set(number, call);
    this.#child.send({ number, name, parameters } satisfies Call);
    return call.promise;
  }

  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }
}

/** In the child: answers until the parent is gone. */
export function answerCalls(
  functions: Readonly<Record<string, (...parameters: never[]) => unknown>>,
): void {
  process.on('message', async ({ number, name, parameters }: Call) => {
    const answer: Answer = { number };
    try {
      answer.value = await functions[name]!(...(parameters as never[]));
    } catch (error) {
      answer.error = String(error);
    }
    process.send!(answer);
  });
  process.on('disconnect', () => process.exit());
}
