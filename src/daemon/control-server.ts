/** The control API of protocol.ts over HTTP on a unix socket that only its owner can open. */

import { rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { describeError, ImgstoreError, ioError } from '../base/errors.ts';
import { KiB } from '../base/limits.ts';
import type { Log } from '../base/log.ts';
import { checkMountRequest } from './mount-request.ts';
import {
  type DaemonStatus,
  type Figures,
  type MountInfo,
  type MountRequest,
  metricsContentType,
  type WireError,
} from './protocol.ts';

/** What the daemon does behind the API; protocol.ts has a line for each. */
export interface Control {
  readonly ending: boolean;
  mount(request: MountRequest, signal: AbortSignal): Promise<MountInfo>;
  unmount(dir: string, options: { force: boolean }): Promise<void>;
  /** Resolves when the mount is gone, whoever took it away. */
  whenGone(id: string): Promise<void>;
  /** Unmounts for a holder who is gone: never rejects, logs what does not go. */
  release(id: string): Promise<void>;
  mounts(): MountInfo[];
  status(): DaemonStatus;
  figures(): Figures;
  metrics(): string;
  /** From now on the daemon does not end by itself. */
  stay(): void;
  /** Resolves when nothing is left but to answer. */
  stop(options: { force: boolean }): Promise<void>;
}

export interface ControlServer {
  /** Takes the socket away; what is under way goes on. */
  refuse(): void;
  /** Resolves when all is answered, or was given the time for it. */
  end(): Promise<void>;
}

const bodyMaxBytes = 64 * KiB;
/** For clients to take their answers when the daemon ends. */
const lastAnswersMs = 1000;

export async function serveControl(
  socketPath: string,
  control: Control,
  log: Log,
): Promise<ControlServer> {
  const server = createServer((request, response) => {
    answer(request, response, control).catch(error => {
      if (!(error instanceof ImgstoreError)) log('error', `control: ${describeError(error)}`);
      sendError(response, error, { status: control.ending ? 503 : 400 });
    });
  });
  await listen(server, socketPath);
  const closed = new Promise<void>(resolve => server.once('close', () => resolve()));
  return {
    refuse: () => server.close(),
    async end() {
      await Promise.race([closed, sleep(lastAnswersMs, undefined, { ref: false })]);
      server.closeAllConnections();
    },
  };
}

async function listen(server: Server, socketPath: string): Promise<void> {
  const umask = process.umask(0o177);
  try {
    await rm(socketPath, { force: true });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(socketPath, resolve);
    });
  } catch (error) {
    throw ioError(`Cannot listen at ${socketPath}`, error);
  } finally {
    process.umask(umask);
  }
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  control: Control,
): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://daemon');
  const force = url.searchParams.get('force') === '1';
  if (control.ending && url.pathname !== '/stop') {
    const hint = 'Run it again.';
    throw new ImgstoreError('UNAVAILABLE', 'Cannot serve: the daemon is ending', { hint });
  }
  switch (`${request.method} ${url.pathname}`) {
    case 'POST /mounts':
      return mount(request, response, control);
    case 'DELETE /mounts':
      await control.unmount(url.searchParams.get('dir') ?? '', { force });
      return send(response, {});
    case 'GET /mounts':
      return send(response, control.mounts());
    case 'GET /status':
      return send(response, control.status());
    case 'GET /figures':
      return send(response, control.figures());
    case 'GET /metrics':
      response.writeHead(200, { 'content-type': metricsContentType });
      response.end(control.metrics());
      return;
    case 'POST /stay':
      control.stay();
      return send(response, {});
    case 'POST /stop':
      await control.stop({ force });
      return send(response, {});
    default:
      throw new ImgstoreError('USAGE', `Cannot ${request.method} ${url.pathname}: no such call`);
  }
}

/** Whoever asked and went away gets no mount, and with a lease it ends when they go. */
async function mount(
  request: IncomingMessage,
  response: ServerResponse,
  control: Control,
): Promise<void> {
  const gone = new AbortController();
  response.on('close', () => {
    if (!response.writableFinished) {
      gone.abort(new ImgstoreError('IO', 'Cannot mount: the one who asked is gone'));
    }
  });
  const wanted = checkMountRequest(await readJson(request));
  const info = await control.mount(wanted, gone.signal);
  if (gone.signal.aborted) return control.release(info.id);
  if (!wanted.lease) return send(response, info);
  gone.signal.addEventListener('abort', () => control.release(info.id));
  response.writeHead(200, { 'content-type': 'application/json' });
  response.write(`${JSON.stringify(info)}\n`);
  await control.whenGone(info.id);
  response.end();
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = [];
  let sizeBytes = 0;
  for await (const part of request) {
    sizeBytes += part.length;
    if (sizeBytes > bodyMaxBytes) {
      throw new ImgstoreError('LIMIT', 'Cannot read the request: it is too large');
    }
    parts.push(part);
  }
  try {
    return JSON.parse(Buffer.concat(parts).toString('utf8'));
  } catch (cause) {
    throw new ImgstoreError('USAGE', 'Cannot read the request: it is not JSON', { cause });
  }
}

function send(response: ServerResponse, document: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(JSON.stringify(document));
}

function sendError(response: ServerResponse, error: unknown, { status }: { status: number }) {
  const known = error instanceof ImgstoreError;
  const document: WireError = {
    code: known ? error.code : 'IO',
    message: known ? error.message : `The daemon failed: ${describeError(error)}`,
    ...(known && error.hint !== undefined ? { hint: error.hint } : {}),
  };
  if (response.headersSent) return void response.destroy();
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(document));
}
