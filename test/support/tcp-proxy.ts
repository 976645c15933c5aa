/** A TCP server between a client and one that works, which does to connections what networks do. */

import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export type ConnectionFault =
  /** What comes back is held up by so long, in its order. */
  | { do: 'delay'; waitMs: number }
  /** Nothing comes back until the fault ends. */
  | { do: 'stall' }
  /** Connections are reset, those that are open and those that come. */
  | { do: 'reset' }
  /** The same, but there is nobody who takes new ones. */
  | { do: 'refuse' }
  /** These bytes come back instead, for whatever is sent. */
  | { do: 'garbage'; bytes: () => Buffer }
  /** Every byte beyond the first 64 of each piece that comes back is another. */
  | { do: 'flip' };

export class TcpProxy {
  readonly host = '127.0.0.1';
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer(client => this.#serve(client));
  readonly #target: { host: string; port: number };
  #fault: ConnectionFault | undefined;
  #port = 0;

  private constructor(target: { host: string; port: number }) {
    this.#target = target;
  }

  static async start(
    context: { after(fn: () => void): void },
    target: { host: string; port: number },
  ): Promise<TcpProxy> {
    const proxy = new TcpProxy(target);
    await once(proxy.#server.listen(0, proxy.host), 'listening');
    proxy.#port = (proxy.#server.address() as AddressInfo).port;
    context.after(() => proxy.close());
    return proxy;
  }

  get port(): number {
    return this.#port;
  }

  /** Undefined: all passes. */
  set fault(fault: ConnectionFault | undefined) {
    this.#fault = fault;
    if (fault?.do === 'refuse') this.close();
    else if (!this.#server.listening) this.#server.listen(this.#port, this.host);
    if (fault?.do === 'reset') this.#reset();
  }

  close(): void {
    this.#server.close();
    this.#reset();
  }

  #reset(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  #serve(client: Socket): void {
    this.#track(client);
    if (this.#fault?.do === 'reset') {
      client.resetAndDestroy();
      return;
    }
    const { host, port } = this.#target;
    const server = this.#track(connect({ host, port, noDelay: true }));
    client.setNoDelay();
    client.on('close', () => server.destroy());
    server.on('close', () => client.destroy());
    client.on('data', bytes => {
      if (this.#fault?.do === 'garbage') client.write(this.#fault.bytes());
      else server.write(bytes);
    });
    let passed = Promise.resolve();
    server.on('data', bytes => {
      passed = this.#pass(client, bytes, passed);
    });
  }

  /** In their order, whatever the fault was when they came. */
  async #pass(client: Socket, bytes: Buffer, before: Promise<void>): Promise<void> {
    const fault = this.#fault;
    const waits = fault?.do === 'delay' ? sleep(fault.waitMs) : undefined;
    if (fault?.do === 'flip') for (let at = 64; at < bytes.length; at++) bytes[at]! ^= 1;
    await before;
    await waits;
    while (this.#fault?.do === 'stall' && !client.destroyed) await sleep(5);
    if (!client.destroyed) client.write(bytes);
  }

  #track(socket: Socket): Socket {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => this.#sockets.delete(socket));
    return socket;
  }
}
