/**
 * A proxy as a process of its own: on the event loop of who measures it would disturb the figures.
 * It ends with the process that started it, however that ends.
 */

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { Random } from './random.ts';
import { type Link, ShapingProxy } from './shaping-proxy.ts';
import { type ConnectionFault, TcpProxy } from './tcp-proxy.ts';

interface Target {
  host: string;
  port: number;
}

/** What can be told to another process: garbage is noise of that process's choice. */
export type ProcessFault =
  | Exclude<ConnectionFault, { do: 'garbage' }>
  | { do: 'garbage' }
  /** Connections are reset, and new ones refused. Only of a link. */
  | { do: 'refuse' };

/** The first one says where the proxy stands; each is answered when it is done. */
type Command = { target: Target; link?: Link } | { fault: ProcessFault | null } | { link: Link };

export class ProxyProcess implements AsyncDisposable {
  readonly host = '127.0.0.1';
  readonly port: number;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
  }

  /** To the target by a link; without one, nothing happens but what `setFault` says. */
  static async start(target: Target, link?: Link): Promise<ProxyProcess> {
    const child = fork(import.meta.filename, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    const { host, port } = target;
    const answer = await ask(child, { target: { host, port }, ...(link && { link }) });
    return new ProxyProcess(child, answer);
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** From now on; undefined: all passes. */
  async setFault(fault: ProcessFault | undefined): Promise<void> {
    await ask(this.#child, { fault: fault ?? null });
  }

  async setLink(link: Link): Promise<void> {
    await ask(this.#child, { link });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }
}

async function ask(child: ChildProcess, command: Command): Promise<number> {
  const ended = new AbortController();
  const answered = once(child, 'message', { signal: ended.signal });
  const onExit = () => ended.abort(new Error('the proxy has ended'));
  child.once('exit', onExit);
  child.send(command);
  const [port] = (await answered.finally(() => child.off('exit', onExit))) as [number];
  return port;
}

async function main(): Promise<void> {
  process.on('disconnect', () => process.exit());
  let link: ShapingProxy | undefined;
  let proxy: TcpProxy | undefined;
  const carryOut = async (command: Command): Promise<number> => {
    if ('target' in command) {
      const { target } = command;
      if (command.link !== undefined) link = await ShapingProxy.start(target, command.link);
      else proxy = await TcpProxy.start({ after: () => {} }, target);
    } else if ('link' in command) {
      link!.link = command.link;
    } else if (link !== undefined) {
      if (command.fault?.do === 'refuse') link.close();
      else await link.listen();
    } else {
      proxy!.fault = faultOf(command.fault);
    }
    return (link ?? proxy)!.port;
  };
  process.on('message', command => {
    carryOut(command as Command).then(port => process.send!(port));
  });
}

function faultOf(fault: ProcessFault | null): ConnectionFault | undefined {
  if (fault === null || fault.do === 'refuse') return undefined;
  if (fault.do !== 'garbage') return fault;
  const random = new Random(1);
  return { do: 'garbage', bytes: () => random.bytes(3000) };
}

if (import.meta.main) await main();
