/**
 * A service that can take it: as much of S3 as imgstore asks for, answered from memory by a process of
 * its own, so that what a bench measures is the client. `node bench/memory-s3.ts` prints its port and
 * runs until its standard input ends.
 *
 * It is honest where the client can tell: If-None-Match decides, a copy copies, lists are in order and
 * in pages, a get is what was put. It checks no signature and no checksum, and any bucket is there.
 *
 * It also writes down what it was asked (`GET /-/taken` gives that, once), answers each request only
 * after a while if it is told to (`/-/delay?MS`), so that requests at once can be told from requests
 * one after the other, and forgets its objects (`/-/forget`).
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** A request that was answered; times of the service's own clock. */
export interface TakenRequest {
  /** COPY for a put that names another object. */
  method: string;
  /** `BUCKET/KEY`, or `list BUCKET/PREFIX`. */
  what: string;
  status: number;
  bodyBytes: number;
  /** Of the object that was its answer. */
  answerBytes: number;
  beganMs: number;
  endedMs: number;
}

/** The most requests of which each began after the one before it had ended. */
export function longestChain(taken: readonly TakenRequest[]): number {
  const lengths: { endedMs: number; length: number }[] = [];
  for (const { beganMs, endedMs } of [...taken].sort((a, b) => a.beganMs - b.beganMs)) {
    const earlier = lengths.filter(before => before.endedMs <= beganMs);
    lengths.push({ endedMs, length: 1 + Math.max(0, ...earlier.map(({ length }) => length)) });
  }
  return Math.max(0, ...lengths.map(({ length }) => length));
}

/** As it came, since one buffer of all of it would be a copy. */
interface Bytes {
  pieces: readonly Buffer[];
  sizeBytes: number;
}

interface StoredObject {
  bytes: Bytes;
  modified: Date;
}

interface Answer {
  status: number;
  document?: string;
  object?: StoredObject;
}

class MemoryS3 {
  readonly #objects = new Map<string, StoredObject>();
  /** All keys in order; undefined after a change. */
  #sorted: string[] | undefined;
  #taken: TakenRequest[] = [];
  #delayMs = 0;

  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const beganMs = performance.now();
    const body = await bodyOf(request);
    const isCopy = request.headers['x-amz-copy-source'] !== undefined;
    const method = isCopy ? 'COPY' : request.method!;
    const url = new URL(request.url!, 'http://localhost');
    const path = decodeURIComponent(url.pathname.slice(1));
    if (path.startsWith('-/')) {
      return respond(response, method, { status: 200, document: this.#control(path, url.search) });
    }
    if (this.#delayMs > 0) await sleep(this.#delayMs);
    const isList = url.searchParams.get('list-type') === '2';
    const answer = isList
      ? this.#list(`${path.replace(/\/$/, '')}/`, url.searchParams)
      : this.#carryOut(method, path, request, body);
    const what = isList ? `list ${path}${url.searchParams.get('prefix')}` : path;
    const { status } = answer;
    const { sizeBytes: bodyBytes } = body;
    const endedMs = performance.now();
    const answerBytes = answer.object?.bytes.sizeBytes ?? 0;
    this.#taken.push({ method, what, status, bodyBytes, answerBytes, beganMs, endedMs });
    respond(response, method, answer);
  }

  #control(path: string, search: string): string {
    if (path === '-/delay') this.#delayMs = Number(search.slice(1));
    if (path === '-/forget') {
      this.#objects.clear();
      this.#sorted = undefined;
    }
    return path === '-/taken' ? JSON.stringify(this.#taken.splice(0)) : '';
  }

  #carryOut(method: string, key: string, request: IncomingMessage, body: Bytes): Answer {
    const found = this.#objects.get(key);
    if (method === 'PUT') {
      const isThere = request.headers['if-none-match'] === '*' && found !== undefined;
      return isThere ? failure(412, 'PreconditionFailed') : this.#keep(key, body);
    }
    if (method === 'COPY') {
      const from = decodeURIComponent(String(request.headers['x-amz-copy-source']));
      const source = this.#objects.get(from.replace(/^\//, ''));
      if (source === undefined) return failure(404, 'NoSuchKey');
      this.#keep(key, source.bytes);
      const time = new Date().toISOString();
      const result = `<LastModified>${time}</LastModified><ETag>"-"</ETag>`;
      return { status: 200, document: `<CopyObjectResult>${result}</CopyObjectResult>` };
    }
    if (method === 'DELETE') {
      if (this.#objects.delete(key)) this.#sorted = undefined;
      return { status: 204 };
    }
    return found === undefined ? failure(404, 'NoSuchKey') : { status: 200, object: found };
  }

  #keep(key: string, bytes: Bytes): Answer {
    if (!this.#objects.has(key)) this.#sorted = undefined;
    this.#objects.set(key, { bytes, modified: new Date() });
    return { status: 200 };
  }

  #list(bucket: string, parameters: URLSearchParams): Answer {
    this.#sorted ??= [...this.#objects.keys()].sort();
    const prefix = bucket + (parameters.get('prefix') ?? '');
    const after = parameters.get('continuation-token') ?? '';
    const keysMax = Number(parameters.get('max-keys') ?? 1000);
    const from = firstAtLeast(this.#sorted, after > prefix ? after : prefix);
    const keys: string[] = [];
    let next: string | undefined;
    for (let at = from; at < this.#sorted.length && next === undefined; at++) {
      const key = this.#sorted[at]!;
      if (!key.startsWith(prefix)) break;
      if (keys.length === keysMax) next = key;
      else keys.push(key);
    }
    const contents = keys.map(key => {
      const { bytes, modified } = this.#objects.get(key)!;
      const name = encodeURIComponent(key.slice(bucket.length)).replaceAll('%2F', '/');
      return (
        `<Contents><Key>${name}</Key><LastModified>${modified.toISOString()}</LastModified>` +
        `<Size>${bytes.sizeBytes}</Size></Contents>`
      );
    });
    const more =
      next === undefined
        ? '<IsTruncated>false</IsTruncated>'
        : `<IsTruncated>true</IsTruncated><NextContinuationToken>${escaped(next)}</NextContinuationToken>`;
    const body = `<EncodingType>url</EncodingType>${more}${contents.join('')}`;
    return { status: 200, document: `<ListBucketResult>${body}</ListBucketResult>` };
  }
}

function firstAtLeast(sorted: readonly string[], key: string): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

function failure(status: number, code: string): Answer {
  return { status, document: `<Error><Code>${code}</Code></Error>` };
}

function respond(response: ServerResponse, method: string, answer: Answer): void {
  const { status, document = '', object } = answer;
  response.writeHead(status, {
    ...(status !== 204 && {
      'content-length': object?.bytes.sizeBytes ?? Buffer.byteLength(document),
    }),
    ...(object && { 'last-modified': object.modified.toUTCString() }),
    etag: '"-"',
  });
  if (method === 'HEAD' || object === undefined) return void response.end(document);
  for (const piece of object.bytes.pieces) response.write(piece);
  response.end();
}

function bodyOf(request: IncomingMessage): Promise<Bytes> {
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = [];
    let sizeBytes = 0;
    request.on('data', (piece: Buffer) => {
      pieces.push(piece);
      sizeBytes += piece.length;
    });
    request.on('end', () => resolve({ pieces, sizeBytes }));
    request.on('error', reject);
  });
}

/** The service as a process of this one's own. */
export class MemoryS3Process implements AsyncDisposable {
  readonly endpoint: string;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, port: string) {
    this.#child = child;
    this.endpoint = `http://127.0.0.1:${port}`;
  }

  static async start(): Promise<MemoryS3Process> {
    const child = spawn(process.execPath, [import.meta.filename], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const [port] = (await once(child.stdout!.setEncoding('utf8'), 'data')) as [string];
    return new MemoryS3Process(child, port.trim());
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** What was asked since the last call. */
  async take(): Promise<TakenRequest[]> {
    return JSON.parse(await this.#control('taken')) as TakenRequest[];
  }

  /** Each request waits so long for its answer from now on. */
  async setDelay(delayMs: number): Promise<void> {
    await this.#control(`delay?${delayMs}`);
  }

  /** Removes all objects. */
  async forget(): Promise<void> {
    await this.#control('forget');
  }

  async #control(what: string): Promise<string> {
    return (await fetch(`${this.endpoint}/-/${what}`)).text();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#child, 'exit');
    this.#child.stdin!.end();
    await ended;
  }
}

async function main(): Promise<void> {
  const service = new MemoryS3();
  const server = createServer((request, response) => {
    service.serve(request, response).catch(() => request.socket.destroy());
  });
  server.keepAliveTimeout = 60_000;
  await once(server.listen(0, '127.0.0.1'), 'listening');
  process.stdout.write(`${(server.address() as AddressInfo).port}\n`);
  await once(process.stdin.resume(), 'end');
  server.closeAllConnections();
  server.close();
}

if (import.meta.main) await main();
