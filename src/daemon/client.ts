/**
 * Talks to the daemon of a home. Errors of the daemon arrive as the ImgstoreErrors that they were;
 * one that is ending, or that ends before it has answered, is the same as none.
 */

import type { ClientRequest, IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { type ErrorCode, errnoOf, ImgstoreError, ioError } from '../base/errors.ts';
import type { Settings } from '../base/settings.ts';
import {
  type DaemonStatus,
  type MountInfo,
  type MountRequest,
  socketName,
  socketPathMaxBytes,
  type WireError,
} from './protocol.ts';

/**
 * Not by `import`: that reads every export of the module, and one of them loads a web client, which
 * costs 36 ms of each command's start (Node 24, `import 'node:http'` against this: 67 and 29 ms).
 */
const { request } = process.getBuiltinModule('node:http');

/** The socket is not there; a killed daemon has left it; the daemon ended while we asked. */
const noDaemon = new Set(['ENOENT', 'ENOTDIR', 'ECONNREFUSED', 'ECONNRESET', 'EPIPE']);
/** See protocol.ts. */
const endingStatus = 503;
const answerMaxBytes = 64 * 1024 * 1024;

export interface Lease {
  info: MountInfo;
  /** Resolves when the mount or the daemon is gone. */
  ended: Promise<void>;
  /** Ends the connection, upon which the daemon unmounts. */
  release(): void;
}

export class DaemonClient {
  readonly #socketPath: string;
  readonly #settings: Settings;

  /** Errors: USAGE if the home's path is too long. */
  constructor(settings: Settings) {
    this.#settings = settings;
    this.#socketPath = join(settings.runDirectory, socketName);
    if (Buffer.byteLength(this.#socketPath) > socketPathMaxBytes) {
      const message = `Cannot use the home ${settings.home}: its path is too long for a socket`;
      throw new ImgstoreError('USAGE', message, { hint: 'Use a shorter one (IMGSTORE_HOME).' });
    }
  }

  /** Of the daemon that answers. */
  async pid(): Promise<number | undefined> {
    return ((await this.callIfRunning('GET', '/status')) as DaemonStatus | undefined)?.pid;
  }

  /** The answer, or undefined if no daemon runs. */
  async callIfRunning(method: string, path: string, signal?: AbortSignal): Promise<unknown> {
    return (await this.#tryCall(method, path, undefined, signal))?.document;
  }

  /** Mounts; a daemon is started if none runs. Giving up leaves nothing mounted. */
  async mount(request: MountRequest, signal: AbortSignal): Promise<MountInfo> {
    const answer = await this.#withDaemon(signal, () =>
      this.#tryCall('POST', '/mounts', request, signal),
    );
    return answer.document as MountInfo;
  }

  /** Mounts for as long as the lease is held; otherwise as `mount`. */
  async lease(request: MountRequest, signal: AbortSignal): Promise<Lease> {
    return this.#withDaemon(signal, () => this.#tryLease(request, signal));
  }

  /** By force: the one who holds it wants to end, whatever else uses the mount. */
  async endLease({ info, release }: Lease): Promise<void> {
    try {
      const path = `/mounts?dir=${encodeURIComponent(info.dir)}&force=1`;
      // Without the daemon it is the next one that clears what the dead one left.
      const answer = await this.callIfRunning('DELETE', path);
      if (answer === undefined) await this.start({ exitWhenIdle: true });
    } catch (error) {
      // Somebody else was quicker.
      if (!(error instanceof ImgstoreError) || error.code !== 'NOT_FOUND') throw error;
    } finally {
      release();
    }
  }

  /** See start.ts, which is loaded when it is needed: most commands find a daemon. */
  async start(options: { exitWhenIdle: boolean; signal?: AbortSignal }): Promise<void> {
    const { startDaemon } = await import('./start.ts');
    await startDaemon(this.#settings, { ...options, runningPid: () => this.pid() });
  }

  async #withDaemon<T>(signal: AbortSignal, attempt: () => Promise<T | undefined>): Promise<T> {
    const first = await attempt();
    if (first !== undefined) return first;
    await this.start({ exitWhenIdle: true, signal });
    const second = await attempt();
    if (second !== undefined) return second;
    throw noAnswer(this.#socketPath);
  }

  async #tryCall(
    method: string,
    path: string,
    body?: unknown,
    signal?: AbortSignal,
  ): Promise<Answer | undefined> {
    const response = await this.#open({ method, path, signal }, body);
    if (response === undefined) return undefined;
    const text = await readAll(response, this.#socketPath).catch(error => {
      throw signal?.aborted ? signal.reason : error;
    });
    if (response.statusCode === endingStatus) return undefined;
    const document: unknown = parse(text, this.#socketPath);
    if (response.statusCode !== 200) throw asError(document, this.#socketPath);
    return { document };
  }

  async #tryLease(mount: MountRequest, signal: AbortSignal): Promise<Lease | undefined> {
    // Until it is granted, the signal ends the request; then it is for the holder to act on it.
    const waiting = new AbortController();
    const onAbort = () => waiting.abort(signal.reason);
    signal.addEventListener('abort', onAbort);
    if (signal.aborted) onAbort();
    try {
      const call = { method: 'POST', path: '/mounts', signal: waiting.signal };
      const response = await this.#open(call, mount);
      if (response === undefined) return undefined;
      if (response.statusCode !== 200) {
        const text = await readAll(response, this.#socketPath);
        if (response.statusCode === endingStatus) return undefined;
        throw asError(parse(text, this.#socketPath), this.#socketPath);
      }
      const ended = new Promise<void>(resolve => response.once('close', () => resolve()));
      const line = await firstLine(response, this.#socketPath);
      const info = parse(line, this.#socketPath) as MountInfo;
      return { info, ended, release: () => response.destroy() };
    } catch (error) {
      throw signal.aborted ? signal.reason : error;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  #open(
    call: { method: string; path: string; signal: AbortSignal | undefined },
    body: unknown,
  ): Promise<IncomingMessage | undefined> {
    const { signal, ...target } = call;
    return new Promise((resolve, reject) => {
      const outgoing: ClientRequest = request(
        { ...target, socketPath: this.#socketPath, agent: false, ...(signal && { signal }) },
        resolve,
      );
      outgoing.on('error', error => {
        const errno = errnoOf(error);
        if (signal?.aborted) reject(signal.reason);
        else if (errno !== undefined && noDaemon.has(errno)) resolve(undefined);
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

function asError(document: unknown, socketPath: string): ImgstoreError {
  const { code, message, hint } = (document ?? {}) as Partial<WireError>;
  if (code === undefined || message === undefined) return noAnswer(socketPath);
  return new ImgstoreError(code as ErrorCode, message, hint === undefined ? {} : { hint });
}

function noAnswer(socketPath: string): ImgstoreError {
  return new ImgstoreError('UNAVAILABLE', `Cannot talk to the daemon at ${socketPath}: it ended`, {
    hint: 'See daemon.log beside the socket, and run it again.',
  });
}
