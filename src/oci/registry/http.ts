/**
 * HTTP exchanges with sockets that are kept, bounded waits and bodies that stream. Nothing is
 * followed, decoded or tried again here; see client.ts.
 *
 * Why not `fetch`: it offers no time-out for one wait, decodes a body that is labelled as compressed,
 * whose bytes would then miss their digest, and takes neither an agent nor a bound on connections.
 *
 * Invariant: a wait for the other side is bounded, the consumer's own time is not counted.
 */

import {
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { ImgstoreError } from '../../base/errors.ts';
import { KiB } from '../../base/limits.ts';
import { isLoopback } from './endpoint.ts';
import { networkFault, TransientFault } from './faults.ts';

export interface HttpTiming {
  /** From the request until the answer's headers, with name look-up, connection and TLS. */
  answerMs: number;
  /** Between two pieces of a body that somebody waits for. */
  silenceMs: number;
}

export const timingDefaults: HttpTiming = { answerMs: 60_000, silenceMs: 60_000 };

export interface HttpRequest {
  /** "Cannot <do> <what>", for messages. */
  what: string;
  url: URL;
  headers: Readonly<Record<string, string>>;
  /** Sent as a form by POST; without it, GET. */
  form?: string;
  /** Ends the body, too. */
  signal: AbortSignal;
}

/** Connections to one host at once: one for each layer under way, and one for documents. */
const socketsPerHostMax = 8;
/** What is read of a body that nobody wants, so that its connection can be used again. */
const discardMaxBytes = 64 * KiB;

export class HttpClient {
  readonly #timing: HttpTiming;
  readonly #agents: {
    local: HttpAgent;
    plain: HttpAgent;
    secure: HttpsAgent;
    localTls: HttpsAgent;
  };

  /** `env` is asked for HTTPS_PROXY and its kin, which loopback hosts never go through. */
  constructor(timing: HttpTiming, env: NodeJS.ProcessEnv) {
    this.#timing = timing;
    const local = { keepAlive: true, maxSockets: socketsPerHostMax };
    const remote = { ...local, proxyEnv: env };
    try {
      this.#agents = {
        local: new HttpAgent(local),
        plain: new HttpAgent(remote),
        localTls: new HttpsAgent(local),
        secure: new HttpsAgent(remote),
      };
    } catch {
      // The error quotes the variable, which may hold a password.
      throw new ImgstoreError('USAGE', 'Cannot use the proxy of the environment: it is no URL', {
        hint: 'Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY.',
      });
    }
  }

  /** UNAVAILABLE if no answer comes, as a TransientFault where another attempt makes sense. */
  send(request: HttpRequest): Promise<HttpAnswer> {
    const { url, headers, form, signal, what } = request;
    signal.throwIfAborted();
    const method = form === undefined ? 'GET' : 'POST';
    const options = { method, headers: { 'User-Agent': 'imgstore', ...headers }, signal };
    return new Promise((resolve, reject) => {
      const outgoing =
        url.protocol === 'https:'
          ? httpsRequest(url, { ...options, agent: this.#secureAgent(url) })
          : httpRequest(url, { ...options, agent: this.#plainAgent(url) });
      const { answerMs } = this.#timing;
      const late = () => new TransientFault(`${what}: ${url.host} does not answer`);
      const timer = setTimeout(() => outgoing.destroy(late()), answerMs);
      outgoing.on('error', error => {
        clearTimeout(timer);
        reject(signal.aborted ? signal.reason : networkFault(what, url.host, error));
      });
      outgoing.on('response', message => {
        clearTimeout(timer);
        resolve(new HttpAnswer(message, request, this.#timing));
      });
      outgoing.end(form);
    });
  }

  close(): void {
    for (const agent of Object.values(this.#agents)) agent.destroy();
  }

  #secureAgent({ hostname }: URL): HttpsAgent {
    return isLoopback(hostname) ? this.#agents.localTls : this.#agents.secure;
  }

  #plainAgent({ hostname }: URL): HttpAgent {
    return isLoopback(hostname) ? this.#agents.local : this.#agents.plain;
  }
}

/** Its body is to be read or discarded, or its connection stays in use. */
export class HttpAnswer {
  readonly url: URL;
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly #message: IncomingMessage;
  readonly #request: HttpRequest;
  readonly #silenceMs: number;

  constructor(message: IncomingMessage, request: HttpRequest, { silenceMs }: HttpTiming) {
    this.url = request.url;
    this.status = message.statusCode ?? 0;
    this.headers = message.headers;
    this.#message = message;
    this.#request = request;
    this.#silenceMs = silenceMs;
    message.on('error', () => {}); // who reads the body is told; if nobody does, it is no matter
  }

  /** Whether the end of the body was announced, so that an early one is seen as a broken connection. */
  get isDelimited(): boolean {
    const { headers } = this;
    return headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined;
  }

  /** Ending the iteration early closes the connection. */
  async *body(): AsyncGenerator<Buffer, void> {
    const { what, url, signal } = this.#request;
    const message = this.#message;
    const silent = () =>
      message.destroy(new TransientFault(`${what}: ${url.host} does not go on sending`));
    const pieces = message[Symbol.asyncIterator]();
    try {
      for (;;) {
        const timer = setTimeout(silent, this.#silenceMs);
        const next: IteratorResult<Buffer> = await pieces.next().finally(() => clearTimeout(timer));
        if (next.done === true) return;
        yield next.value;
      }
    } catch (error) {
      throw signal.aborted ? signal.reason : networkFault(what, url.host, error);
    } finally {
      message.destroy();
    }
  }

  /** Undefined if it is longer than that. */
  async bytes(maxBytes: number): Promise<Buffer | undefined> {
    const pieces: Buffer[] = [];
    let sizeBytes = 0;
    for await (const piece of this.body()) {
      sizeBytes += piece.length;
      if (sizeBytes > maxBytes) return undefined;
      pieces.push(piece);
    }
    return Buffer.concat(pieces);
  }

  /** Whatever happens to it. */
  async discard(): Promise<void> {
    await this.bytes(discardMaxBytes).catch(() => undefined);
  }
}
