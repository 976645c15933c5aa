/**
 * An HTTP server between a client and a service that works: it passes requests on as they are, so
 * that signatures stay valid, notes them, and does to some what networks and busy services do.
 */

import { once } from 'node:events';
import {
  Agent,
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export interface ProxiedRequest {
  /** 0, 1, … in order of arrival. */
  number: number;
  method: string;
  /** With the query. */
  path: string;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

export interface ProxiedAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

export type Fault =
  /** Says this instead, without passing the request on. */
  | { do: 'answer'; status: number; headers?: Record<string, string>; body?: string }
  /** Closes the connection before or after the service did its work. */
  | { do: 'reset'; when: 'before' | 'after' }
  | { do: 'delay'; waitMs: number }
  /** Never answers; or never ends an answer of which so many bytes were sent. */
  | { do: 'stall'; afterBytes?: number }
  /** Sends so many bytes of the answer's body, then closes; or says that this is all. */
  | { do: 'cut'; afterBytes: number; says: 'all' | 'more' }
  /** Changes a byte in the middle of the body. */
  | { do: 'flip'; of: 'request' | 'answer' }
  /** Bytes that are not HTTP. */
  | { do: 'garbage' }
  /** The service does its work twice: before the answer, or once more some time after it. */
  | { do: 'twice'; afterMs?: number }
  /** Answers as the same request was answered before; passes it on if it is the first. */
  | { do: 'replay' }
  /** Answers with what was answered last to another path, if anything was. */
  | { do: 'another' }
  /** Sends bytes after the answer's end, which are no answer to anything. */
  | { do: 'overrun'; more: string }
  /** What the test makes of it, without the service. */
  | { do: 'instead'; answer: () => Promise<{ status: number; body?: string }> };

/** What happens to a request; undefined: it passes. */
export type FaultPlan = (request: ProxiedRequest) => Fault | undefined;

export class FaultProxy {
  plan: FaultPlan = () => undefined;
  readonly requests: ProxiedRequest[] = [];
  /** The most requests that were under way at once. */
  inFlightMax = 0;
  connections = 0;
  #inFlight = 0;
  /** Of lists, by path: they are small. */
  readonly #answered = new Map<string, ProxiedAnswer>();
  /** Of the two paths that were answered last. */
  #latest: { path: string; answer: ProxiedAnswer }[] = [];
  readonly #late = new Set<NodeJS.Timeout>();
  readonly #target: URL;
  readonly #agent = new Agent({ keepAlive: true });
  readonly #server = createServer((incoming, response) => {
    this.#serve(incoming, response).catch(() => incoming.socket.destroy());
  });

  constructor(target: string) {
    this.#target = new URL(target);
  }

  /** Listens; closed when the test ends. */
  static async start(
    context: { after(fn: () => Promise<void>): void },
    target: string,
  ): Promise<FaultProxy> {
    const proxy = new FaultProxy(target);
    proxy.#server.on('connection', () => proxy.connections++);
    await once(proxy.#server.listen(0, '127.0.0.1'), 'listening');
    context.after(() => proxy.close());
    return proxy;
  }

  async close(): Promise<void> {
    for (const timer of this.#late) clearTimeout(timer);
    this.#server.close();
    this.#server.closeAllConnections();
    this.#agent.destroy();
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Requests since the last call, by method and the last part of the path. */
  take(): string[] {
    return this.requests
      .splice(0)
      .map(({ method, path }) => `${method} ${path.split('?')[0]!.split('/').at(-1)}`);
  }

  async #serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    this.inFlightMax = Math.max(this.inFlightMax, ++this.#inFlight);
    try {
      const received: ProxiedRequest = {
        number: this.requests.length,
        method: incoming.method!,
        path: incoming.url!,
        headers: incoming.headers,
        body: await bodyOf(incoming),
      };
      this.requests.push(received);
      await this.#answer(received, incoming, response);
    } finally {
      this.#inFlight--;
    }
  }

  async #answer(
    received: ProxiedRequest,
    incoming: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const fault = this.plan(received);
    const socket = incoming.socket;
    if (fault?.do === 'answer') return void send(response, { headers: {}, body: '', ...fault });
    if (fault?.do === 'instead') {
      return void send(response, { headers: {}, body: '', ...(await fault.answer()) });
    }
    if (fault?.do === 'garbage') return void socket.end('\u0000 what is this? \r\n\r\n');
    if (fault?.do === 'reset' && fault.when === 'before') return void socket.resetAndDestroy();
    if (fault?.do === 'stall' && fault.afterBytes === undefined) return;
    if (fault?.do === 'delay') await sleep(fault.waitMs);
    if (fault?.do === 'flip' && fault.of === 'request') flip(received.body);
    const before = fault?.do === 'replay' ? this.#answered.get(received.path) : undefined;
    if (before !== undefined) return void send(response, before);
    if (fault?.do === 'twice') await this.#passAgain(received, fault.afterMs);
    const answer = await this.#pass(received);
    if (received.path.includes('list-type=2')) this.#answered.set(received.path, answer);
    const [other] = this.#latest.filter(({ path }) => path !== received.path);
    this.#latest = [{ path: received.path, answer }, ...(other === undefined ? [] : [other])];
    if (fault?.do === 'another' && other !== undefined) return void send(response, other.answer);
    if (fault?.do === 'flip' && fault.of === 'answer') flip(answer.body);
    if (fault?.do === 'reset') return void socket.resetAndDestroy();
    if (fault?.do === 'cut' && fault.says === 'all') {
      const body = answer.body.subarray(0, fault.afterBytes);
      const headers = { ...answer.headers, 'content-length': `${body.length}` };
      return void send(response, { ...answer, headers, body });
    }
    if (fault?.do === 'overrun') return overrun(response, answer, fault.more);
    if (fault?.do === 'cut' || fault?.do === 'stall') {
      response.writeHead(answer.status, answer.headers);
      response.write(answer.body.subarray(0, fault.afterBytes), () => {
        if (fault.do === 'cut') socket.destroy();
      });
      return;
    }
    send(response, answer);
  }

  async #passAgain(received: ProxiedRequest, afterMs: number | undefined): Promise<void> {
    if (afterMs === undefined) return void (await this.#pass(received));
    const timer = setTimeout(() => {
      this.#late.delete(timer);
      this.#pass(received).catch(() => {});
    }, afterMs);
    this.#late.add(timer);
  }

  async #pass({ method, path, headers, body }: ProxiedRequest): Promise<ProxiedAnswer> {
    const { hostname, port } = this.#target;
    const outgoing = request({ hostname, port, method, path, headers, agent: this.#agent });
    outgoing.end(body);
    const [answer] = (await once(outgoing, 'response')) as [IncomingMessage];
    const { 'transfer-encoding': _, connection: __, ...kept } = answer.headers;
    return { status: answer.statusCode!, headers: kept, body: await bodyOf(answer) };
  }
}

function send(
  response: ServerResponse,
  answer: { status: number; headers: IncomingHttpHeaders; body: string | Buffer },
): void {
  response.writeHead(answer.status, answer.headers);
  response.end(answer.body);
}

/** Past HTTP's own parser, which would not let it through. */
function overrun(response: ServerResponse, answer: ProxiedAnswer, more: string): void {
  const socket = response.socket!;
  const { status, headers, body } = answer;
  const length = body.length > 0 && { 'content-length': `${body.length}` };
  const lines = Object.entries({ ...headers, ...length }).map(
    ([name, value]) => `${name}: ${value}`,
  );
  socket.write(`HTTP/1.1 ${status} X\r\n${lines.join('\r\n')}\r\n\r\n`);
  socket.write(Buffer.concat([body, Buffer.from(more)]));
}

async function bodyOf(message: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of message as AsyncIterable<Buffer>) pieces.push(piece);
  return Buffer.concat(pieces);
}

function flip(bytes: Buffer): void {
  const middle = bytes.length >> 1;
  if (bytes.length > 0) bytes[middle] = bytes[middle]! ^ 1;
}
