/**
 * A TCP proxy that makes a service on the loopback one that is far away: what comes back passes one
 * link for all connections, of so many bytes a second, and takes a while to arrive. What is sent to
 * the service is not held up: it is requests.
 *
 * The link is a queue without bursts: a piece leaves when the link has sent all that came before it,
 * and arrives `delayMs` later. A connection from which much waits for the link is not read
 * from meanwhile.
 */

import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { KiB } from '../../src/base/limits.ts';

export interface Link {
  /** From when a piece has left the link. With one request at a time this is to the first byte. */
  delayMs: number;
  bytesPerSecond: number;
}

const queuedOfConnectionMaxBytes = 256 * KiB;

export class ShapingProxy {
  readonly host = '127.0.0.1';
  readonly #target: { host: string; port: number };
  readonly #sockets = new Set<Socket>();
  #link: Link;
  #server: Server | undefined;
  #port = 0;
  /** When the link will have sent what it has got. */
  #linkFreeMs = 0;

  private constructor(target: { host: string; port: number }, link: Link) {
    this.#target = target;
    this.#link = link;
  }

  static async start(target: { host: string; port: number }, link: Link): Promise<ShapingProxy> {
    const proxy = new ShapingProxy(target, link);
    await proxy.listen();
    return proxy;
  }

  get port(): number {
    return this.#port;
  }

  set link(link: Link) {
    this.#link = link;
  }

  /** On the port that it had. */
  async listen(): Promise<void> {
    this.#server ??= createServer(client => this.#serve(client));
    if (this.#server.listening) return;
    await once(this.#server.listen(this.#port, this.host), 'listening');
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  /** Connections are reset, and new ones refused. */
  close(): void {
    this.#server?.close();
    this.#server = undefined;
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  #serve(client: Socket): void {
    this.#track(client.setNoDelay());
    const server = this.#track(connect({ ...this.#target, noDelay: true }));
    client.on('close', () => server.destroy());
    server.on('close', () => client.destroy());
    client.pipe(server);
    let passed = Promise.resolve();
    let queuedBytes = 0;
    server.on('data', bytes => {
      const { delayMs, bytesPerSecond } = this.#link;
      const nowMs = performance.now();
      const sendMs = (bytes.length * 1000) / bytesPerSecond;
      this.#linkFreeMs = Math.max(this.#linkFreeMs, nowMs) + sendMs;
      queuedBytes += bytes.length;
      if (queuedBytes > queuedOfConnectionMaxBytes) server.pause();
      const sent = sleep(this.#linkFreeMs - nowMs).then(() => {
        queuedBytes -= bytes.length;
        if (queuedBytes <= queuedOfConnectionMaxBytes) server.resume();
        return sleep(delayMs);
      });
      passed = passed.then(() => sent).then(() => void (client.destroyed || client.write(bytes)));
    });
  }

  #track(socket: Socket): Socket {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => this.#sockets.delete(socket));
    return socket;
  }
}
