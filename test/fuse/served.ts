/** A test's end of disk-server.ts. */

import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FileStats } from '../../src/fuse/nodes.ts';
import type { ConnectionState } from '../../src/fuse/server.ts';
import type { ForkOptions, TestMounts } from '../support/mounts.ts';
import type { Command, FileSpec } from './disk-server.ts';

const script = join(import.meta.dirname, 'disk-server.ts');

interface Message {
  number?: number;
  result?: unknown;
  error?: string;
  log?: string;
  ready?: boolean;
  ended?: boolean;
}

export class Served {
  readonly child: ChildProcess;
  readonly mountPoint: string;
  readonly log: string[] = [];
  readonly #waiting = new Map<number, (message: Message) => void>();
  readonly ended: Promise<void>;
  #number = 0;

  constructor(child: ChildProcess, mountPoint: string) {
    this.child = child;
    this.mountPoint = mountPoint;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.ended = promise;
    child.on('message', (message: Message) => {
      if (message.log !== undefined) this.log.push(message.log);
      if (message.ended) resolve();
      if (message.number !== undefined) this.#waiting.get(message.number)?.(message);
    });
    child.on('exit', () => {
      for (const answer of this.#waiting.values()) answer({ error: 'the server has ended' });
    });
  }

  async command(command: Command): Promise<unknown> {
    const number = ++this.#number;
    const answered = new Promise<Message>(resolve => this.#waiting.set(number, resolve));
    this.child.send({ number, command });
    const { result, error } = await answered;
    this.#waiting.delete(number);
    if (error !== undefined) throw new Error(error);
    return result;
  }

  async add(file: FileSpec): Promise<string> {
    await this.command({ do: 'add', file });
    return this.path(file.id);
  }

  path(id: string): string {
    return join(this.mountPoint, id, 'disk');
  }

  async stats(id: string): Promise<FileStats> {
    const all = (await this.command({ do: 'stats' })) as FileStats[];
    return all.find(stats => stats.id === id)!;
  }

  async state(): Promise<{ pid: number; fd: number; state: ConnectionState }> {
    return (await this.command({ do: 'state' })) as Awaited<ReturnType<Served['state']>>;
  }
}

/** Starts a server process and waits until it serves. */
export async function serve(
  mounts: TestMounts,
  mountPoint: string,
  options: ForkOptions & { takeover?: { state: ConnectionState; specs: FileSpec[] } } = {},
): Promise<Served> {
  const { takeover, ...forkOptions } = options;
  const args = takeover === undefined ? [mountPoint] : [mountPoint, JSON.stringify(takeover)];
  const child = mounts.fork(script, args, forkOptions);
  const served = new Served(child, mountPoint);
  const exited = once(child, 'exit').then(() => {
    throw new Error(`the server did not start:\n${served.log.join('')}`);
  });
  exited.catch(() => {});
  const ready = new Promise<void>(resolve => {
    child.on('message', (message: Message) => message.ready && resolve());
  });
  await Promise.race([ready, exited]);
  return served;
}

/** Fails if it does not become true in 20 seconds. */
export async function waitFor(condition: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + 20_000;
  while (!(await condition())) {
    if (performance.now() > deadlineMs) throw new Error(`not in time: ${condition}`);
    await sleep(5);
  }
}
