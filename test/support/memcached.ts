/** Real memcached servers on the loopback; they end with the test, or with this process. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { waitUntil } from './poll.ts';

export interface MemcachedServerOptions {
  /** memcached's -m, which it keeps roughly; 2 is the least with items of 1 MiB. */
  memoryMiB?: number;
  /** More of its own flags. */
  flags?: readonly string[];
}

export class MemcachedServer {
  readonly host = '127.0.0.1';
  #options: MemcachedServerOptions;
  #process: ChildProcess | undefined;
  #port = 0;

  private constructor(options: MemcachedServerOptions) {
    this.#options = options;
  }

  static async start(
    context: { after(fn: () => Promise<void>): void },
    options: MemcachedServerOptions = {},
  ): Promise<MemcachedServer> {
    const server = new MemcachedServer(options);
    context.after(() => server.kill());
    await server.restart();
    return server;
  }

  get port(): number {
    return this.#port;
  }

  get processId(): number {
    return this.#process!.pid!;
  }

  /** Starts it again, empty, on the port that it had; from now on with these options, if given. */
  async restart(options?: MemcachedServerOptions): Promise<void> {
    await this.kill();
    this.#options = options ?? this.#options;
    const folder = mkdtempSync(join(tmpdir(), 'imgstore-memcached-'));
    try {
      const portFile = join(folder, 'port');
      this.#process = this.#spawn(portFile);
      if (this.#port === 0) await this.#readPort(portFile);
      else await this.#answers();
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  async kill(): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  /** It keeps its connections and takes new ones, but answers nothing. */
  async pause(): Promise<void> {
    this.#process!.kill('SIGSTOP');
    const stat = `/proc/${this.processId}/stat`;
    await waitUntil('memcached stops', () => / T /.test(readFileSync(stat, 'latin1')));
  }

  resume(): void {
    this.#process!.kill('SIGCONT');
  }

  #spawn(portFile: string): ChildProcess {
    const flags = [
      ...['-l', this.host, '-p', this.#port === 0 ? '-1' : `${this.#port}`, '-U', '0', '-t', '1'],
      ...['-m', `${this.#options.memoryMiB ?? 64}`, '-u', userInfo().username],
      ...(this.#options.flags ?? []),
    ];
    // Even if this process is killed with SIGKILL, the kernel ends the server.
    return spawn('setpriv', ['--pdeathsig', 'KILL', 'memcached', ...flags], {
      stdio: 'ignore',
      env: { ...process.env, MEMCACHED_PORT_FILENAME: portFile },
    });
  }

  async #readPort(portFile: string): Promise<void> {
    await waitUntil('memcached tells its port', () => {
      this.#assertRuns();
      this.#port = portIn(portFile);
      return this.#port !== 0;
    });
  }

  async #answers(): Promise<void> {
    await waitUntil('memcached takes connections', async () => {
      this.#assertRuns();
      const socket = createConnection({ host: this.host, port: this.#port });
      const taken = await once(socket, 'connect').then(
        () => true,
        () => false,
      );
      socket.destroy();
      return taken;
    });
  }

  #assertRuns(): void {
    if (this.#process!.exitCode !== null) throw new Error('memcached has ended');
  }
}

function portIn(portFile: string): number {
  try {
    return Number(/^TCP INET: (\d+)\n/m.exec(readFileSync(portFile, 'latin1'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}
