/**
 * The daemon's metrics on a TCP port, for whoever may reach it: GET /metrics and nothing else.
 *
 * Invariants: no state of the port fails a mount: what cannot be listened at is warned of once and
 * tried again. Clients are hostile: connections, headers and the time of a request are bounded, and
 * the text is made once a second at most, however often it is asked for.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { describeError, ImgstoreError, ioError } from '../base/errors.ts';
import { KiB } from '../base/limits.ts';
import type { Log } from '../base/log.ts';
import type { WrittenSetting } from '../base/settings.ts';
import { metricsContentType } from './protocol.ts';

export interface ListenAddress {
  /** A name or an address, IPv6 without its brackets. */
  host: string;
  /** 0: whichever is free. */
  port: number;
}

export interface MetricsServerState {
  /** HOST:PORT, the port as it was given by the system. */
  address: string;
  /** Why nobody can be served. */
  problem: string | null;
}

export interface MetricsServerOptions {
  address: ListenAddress;
  /** Prometheus' text format. */
  text: () => string;
  log: Log;
  /** Between attempts to listen. */
  retryMs?: number;
  /** For a connection to send a request. */
  requestMaxMs?: number;
}

/** One server of metrics asks, or a pair; somebody with a browser. */
const connectionsMax = 16;
const headersMaxBytes = 8 * KiB;
const requestMaxDefaultMs = 5000;
const answerMaxMs = 20_000;
const keepAliveMs = 5000;
const renderedForMs = 1000;
const retryDefaultMs = 5000;

/** Errors: USAGE where it is not HOST:PORT. */
export function parseListenAddress({ text, source }: WrittenSetting): ListenAddress {
  const parts = /^(?<host>[a-z0-9.-]{1,253}|\[[0-9a-f:.%a-z]{2,60}\]):(?<port>\d{1,5})$/i.exec(
    text,
  );
  const port = Number(parts?.groups?.['port']);
  if (!(port <= 65_535)) {
    const message = `Cannot use ${source}: ${JSON.stringify(text)} is no place for metrics`;
    throw new ImgstoreError('USAGE', message, {
      hint: 'Write HOST:PORT, such as 127.0.0.1:9464, [::1]:9464 or 0.0.0.0:9464.',
    });
  }
  return { host: parts!.groups!['host']!.replace(/^\[|\]$/g, ''), port };
}

export class MetricsServer {
  readonly #options: MetricsServerOptions;
  readonly #server: Server;
  #problem: string | null = null;
  #retry: NodeJS.Timeout | undefined;
  #rendered = { text: '', atMs: Number.NEGATIVE_INFINITY };

  /** Begins to listen, and goes on trying until it is closed. */
  constructor(options: MetricsServerOptions) {
    this.#options = options;
    const { requestMaxMs = requestMaxDefaultMs } = options;
    this.#server = createServer(
      {
        maxHeaderSize: headersMaxBytes,
        headersTimeout: requestMaxMs,
        requestTimeout: requestMaxMs,
        keepAliveTimeout: keepAliveMs,
        connectionsCheckingInterval: requestMaxMs / 4,
      },
      (request, response) => this.#answer(request, response),
    );
    this.#server.maxConnections = connectionsMax;
    this.#server.on('error', error => this.#failed(error));
    this.#server.on('listening', () => this.#listening());
    this.#listen();
  }

  get state(): MetricsServerState {
    const { host } = this.#options.address;
    const bound = this.#server.address();
    const port = typeof bound === 'object' && bound !== null ? bound.port : undefined;
    const shown = host.includes(':') ? `[${host}]` : host;
    const address = `${shown}:${port ?? this.#options.address.port}`;
    return { address, problem: this.#problem };
  }

  close(): void {
    clearTimeout(this.#retry);
    this.#server.close();
    this.#server.closeAllConnections();
  }

  #listen(): void {
    const { host, port } = this.#options.address;
    this.#server.listen({ host, port });
    // A name may be looked up when it is closed, and would be listened at then.
    this.#server.unref();
  }

  #listening(): void {
    const { address } = this.state;
    if (this.#problem !== null) this.#options.log('info', `Metrics are served at ${address}`);
    this.#problem = null;
  }

  #failed(error: Error): void {
    if (this.#server.listening) return; // one connection could not be accepted
    const { log, retryMs = retryDefaultMs } = this.#options;
    const state = describeError(ioError(`Cannot serve metrics at ${this.state.address}`, error));
    if (this.#problem === null) log('warn', state);
    this.#problem = state;
    this.#retry = setTimeout(() => this.#listen(), retryMs).unref();
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const deadline = setTimeout(() => request.socket.destroy(), answerMaxMs).unref();
    response.on('close', () => clearTimeout(deadline));
    const path = request.url?.split('?', 1)[0];
    if (path !== '/metrics') {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('There is only /metrics.\n');
    } else if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.writeHead(405, { allow: 'GET, HEAD' }).end();
    } else {
      response.writeHead(200, { 'content-type': metricsContentType }).end(this.#text());
    }
  }

  #text(): string {
    const nowMs = performance.now();
    if (nowMs - this.#rendered.atMs >= renderedForMs) {
      this.#rendered = { text: this.#options.text(), atMs: nowMs };
    }
    return this.#rendered.text;
  }
}
