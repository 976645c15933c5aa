/**
 * Talks to the daemon of a home. Errors of the daemon arrive as the
 * ImgstoreErrors that they were.
 */

import type { ClientRequest, IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { type ErrorCode, errnoOf, ImgstoreError, ioError } from '../base/errors.ts';
import type { Settings } from '../base/settings.ts';
import { type MountInfo, type MountRequest, socketName, type WireError } from './protocol.ts';

/**
 * Not by `import`: that reads every export of the module, and one of them loads a web client, which
 * costs 36 ms of each command's start (Node 24, `import 'node:http'` against this: 67 and 29 ms).
 */
const { request } = process.getBuiltinModule('node:http');

const answerMaxBytes = 64 * 1024 * 1024;

export interface Lease {
  info: MountInfo;
  /** Ends the connection; the daemon unmounts. */
  release(): void;
}

export class DaemonClient {
  readonly #socketPath: string;
  readonly #settings: Settings;

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#socketPath = join(settings.runDirectory, socketName);
  }

  /** True if a daemon answers. */
  async isRunning(): Promise<boolean> {
    return (await this.#tryCall('GET', '/status')) !== undefined;
  }

  /** The answer, or undefined if no daemon runs. */
  async callIfRunning(method: string, path: string, body?: unknown): Promise<unknown> {
    const answer = await this.#tryCall(method, path, body);
    return answer === undefined ? undefined : answer.document;
  }

  /** The answer of the daemon, which is started if none runs. */
  async call(method: string, path: string, body?: unknown): Promise<unknown> {
    const first = await this.#tryCall(method, path, body);
    if (first !== undefined) return first.document;
    await this.start({ exitWhenIdle: true });
    const second = await this.#tryCall(method, path, body);
    if (second !== undefined) return second.document;
    throw noAnswer(this.#socketPath);
  }

  /** Mounts for as long as the lease is held; started daemon and errors as with `call`. */
  async lease(mount: MountRequest): Promise<Lease> {
    const first = await this.#tryLease(mount);
    if (first !== undefined) return first;
    await this.start({ exitWhenIdle: true });
    const held = await this.#tryLease(mount);
    if (held === undefined) throw noAnswer(this.#socketPath);
    return held;
  }

  /** See start.ts, which is loaded when it is needed: most commands find a daemon. */
  async start(options: { exitWhenIdle: boolean }): Promise<void> {
    const { startDaemon } = await import('./start.ts');
    await startDaemon(this.#settings, { ...options, isRunning: () => this.isRunning() });
  }

  async #tryCall(method: string, path: string, body?: unknown): Promise<Answer | undefined> {
    const response = await this.#open(method, path, body);
    if (response === undefined) return undefined;
    const text = await readAll(response, this.#socketPath);
    const document: unknown = text === '' ? {} : parse(text, this.#socketPath);
    if (response.statusCode !== 200) throw asError(document);
    return { document };
  }

  async #tryLease(mount: MountRequest): Promise<Lease | undefined> {
    const response = await this.#open('POST', '/mounts', mount);
    if (response === undefined) return undefined;
    if (response.statusCode !== 200) {
      throw asError(parse(await readAll(response, this.#socketPath), this.#socketPath));
    }
    const line = await firstLine(response, this.#socketPath);
    const info = parse(line, this.#socketPath) as MountInfo;
    return { info, release: () => response.destroy() };
  }

  #open(method: string, path: string, body: unknown): Promise<IncomingMessage | undefined> {
    return new Promise((resolve, reject) => {
      const outgoing: ClientRequest = request(
        { socketPath: this.#socketPath, method, path, agent: false },
        resolve,
      );
      outgoing.on('error', error => {
        const errno = errnoOf(error);
        // A socket file without a listener is what a killed daemon leaves behind.
        if (errno === 'ENOENT' || errno === 'ECONNREFUSED' || errno === 'ENOTDIR') {
          resolve(undefined);
        } else if (errno === 'ECONNRESET' || errno === 'EPIPE') reject(noAnswer(this.#socketPath));
        else reject(ioError(`Cannot talk to the daemon at ${this.#socketPath}`, error));
      });
      if (body === undefined) outgoing.end();
      else outgoing.end(JSON.stringify(body));
    });
  }
}

interface Answer {
  document: unknown;
}

async function readAll(response: IncomingMessage, socketPath: string): Promise<string> {
  let text = '';
  response.setEncoding('utf8');
  try {
    for await (const part of response) {
      text += part;
      if (text.length > answerMaxBytes) throw noAnswer(socketPath);
    }
  } catch (error) {
    throw error instanceof ImgstoreError ? error : noAnswer(socketPath);
  }
  return text;
}

/** The first line of an answer that stays open. */
function firstLine(response: IncomingMessage, socketPath: string): Promise<string> {
  response.setEncoding('utf8');
  return new Promise((resolve, reject) => {
    let text = '';
    response.on('data', part => {
      text += part;
      const end = text.indexOf('\n');
      if (end !== -1) resolve(text.slice(0, end));
      else if (text.length > answerMaxBytes) reject(noAnswer(socketPath));
    });
    response.on('error', () => reject(noAnswer(socketPath)));
    response.on('end', () => reject(noAnswer(socketPath)));
  });
}

function parse(text: string, socketPath: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw noAnswer(socketPath);
  }
}

function asError(document: unknown): ImgstoreError {
  const { code, message, hint } = document as WireError;
  return new ImgstoreError(code as ErrorCode, message, hint === undefined ? {} : { hint });
}

function noAnswer(socketPath: string): ImgstoreError {
  return new ImgstoreError('UNAVAILABLE', `Cannot talk to the daemon at ${socketPath}: it ended`, {
    hint: `See daemon.log beside the socket, and run it again.`,
  });
}
