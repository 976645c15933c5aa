/** An image's hello, once and for real: pushed, and started by imgstore from an empty cache. */

import type { ChildProcess } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { TestHome } from '../../test/support/processes.ts';
import type { CorpusImage } from './build.ts';
import { definitions, imageOf } from './definitions.ts';
import { helloDone } from './hello.ts';

const pushTimeoutMs = 10 * 60_000;
const helloTimeoutMs = 120_000;
const stopTimeoutMs = 10_000;
const stopAgainMs = 500;

export interface Tried {
  /** From the command's start until the hello was done, and that again at once. */
  coldMs: number;
  nextMs: number;
  /** What `imgstore run --stats` says of the first. */
  stats: string;
}

/** Images with one store, so that what they share is pushed once. */
export class Trials implements AsyncDisposable {
  readonly #home = new TestHome();

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#home.close();
  }

  async run(image: CorpusImage): Promise<Tried> {
    const home = this.#home;
    await home.runChecked(['push', image.source, image.name], { timeoutMs: pushTimeoutMs });
    await home.runChecked(['daemon', 'stop', '--force']);
    await rm(join(home.home, 'cache'), { recursive: true, force: true });
    await home.runChecked(['daemon', 'start']);
    const cold = await this.#start(image);
    const next = await this.#start(image);
    return { coldMs: cold.ms, nextMs: next.ms, stats: cold.stats };
  }

  async #start({ name }: CorpusImage): Promise<{ ms: number; stats: string }> {
    const { args, done } = definitions[imageOf(name)].hello;
    const before = performance.now();
    const command = ['run', '--stats', name, ...(args ? ['--', ...args] : [])];
    const timeoutMs = helloTimeoutMs + stopTimeoutMs;
    const { child, result } = this.#home.start(command, { timeoutMs });
    let ms = Number.NaN;
    try {
      await helloDone(done, child, { timeoutMs: helloTimeoutMs });
      ms = performance.now() - before;
    } finally {
      await stopped(child, result);
    }
    const { stderr } = await result;
    return { ms, stats: /^.*Fetched .*$/m.exec(stderr)?.[0] ?? '' };
  }
}

/** Some programs handle SIGTERM and go on: three of them mean it. */
async function stopped(child: ChildProcess, result: Promise<unknown>): Promise<void> {
  child.kill('SIGTERM');
  const timer = setInterval(() => child.kill('SIGTERM'), stopAgainMs);
  await result.catch(() => {}).finally(() => clearInterval(timer));
}
