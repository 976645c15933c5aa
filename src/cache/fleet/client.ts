/**
 * One memcached server: one connection, opened when it is first needed, on which requests follow
 * each other without waiting for answers.
 *
 * Invariants: requests under way and their bytes are bounded; beyond that requests are refused at
 * once, never queued. Every promise settles by its time-out. An answer that comes later, or that
 * nobody wants any more, passes without being kept. A protocol violation closes the connection and
 * fails what is under way on it; the next request opens another, after a back-off that grows while
 * connections fail. Nothing is asked twice: that is for who knows of other servers.
 */

import { connect, type Socket } from 'node:net';
import { errnoOf, ImgstoreError } from '../../base/errors.ts';
import { KiB, MiB, sealedChunkSizeMaxBytes } from '../../base/limits.ts';
import { type BackOff, backOffMs } from '../../base/retry.ts';
import {
  type AnswerLine,
  AnswerParser,
  addRequest,
  deleteRequest,
  getRequest,
  ProtocolFault,
  setRequest,
  touchRequest,
  valueEnd,
} from './protocol.ts';

export interface MemcachedAddress {
  host: string;
  port: number;
}

export interface MemcachedOptions extends MemcachedAddress {
  /** A monotonic clock. */
  nowMs?: () => number;
  /** 0 to below 1. */
  random?: () => number;
  /** For how long this process has not waited for events, in all. */
  busyMs?: () => number;
}

export interface ReadOptions {
  /** A longer value is not delivered. At most `valueSizeMaxBytes`. */
  sizeMaxBytes: number;
  timeoutMs: number;
  /** Aborted, nobody wants the value any more: its bytes pass, and the answer is `unwanted`. */
  signal?: AbortSignal;
}

export type ReadAnswer = Buffer | 'absent' | 'too large' | 'unwanted';

/** Any shard, with its header; what is longer was never stored by this program. */
export const valueSizeMaxBytes = sealedChunkSizeMaxBytes + 4 * KiB;

const requestsMax = 1024;
/** Of values that were sent or may come. */
const requestBytesMax = 64 * MiB;
const connectTimeoutMs = 2000;
/** A connection on which an answer takes so long, well beyond any time-out, is given up. */
const answerAgeMaxMs = 5000;
const reconnectBackOff: BackOff = { waitFirstMs: 100, waitMaxMs: 5000 };
/** One read from the socket; a longer one costs memory per server, a shorter one more turns. */
const receiveBufferSizeBytes = 128 * KiB;

/** A fault: no answer in time. It may be on its way. */
export class TimeOut extends ImgstoreError {}

interface Request {
  readonly opaque: number;
  readonly sizeBytes: number;
  readonly read: ReadOptions | undefined;
  readonly sentMs: number;
  /** This process', when it was sent. */
  readonly busyMs: number;
  readonly timeoutMs: number;
  timer: NodeJS.Timeout;
  /** Whether its time was extended. */
  extended: boolean;
  /** Once: answered, failed, or out of time. */
  readonly settle: (outcome: Answer | ImgstoreError) => void;
  settled: boolean;
  answer: Answer | undefined;
}

type Answer = ReadAnswer | 'done' | 'not stored' | 'refused';

interface FaultDetails {
  code?: 'UNAVAILABLE' | 'BUSY';
  cause?: unknown;
}

interface Connection {
  readonly socket: Socket;
  /** In the order of their answers. */
  readonly requests: Request[];
}

export class MemcachedClient {
  readonly #options: MemcachedOptions;
  readonly #nowMs: () => number;
  readonly #random: () => number;
  readonly #busyMs: () => number;
  #connection: Connection | undefined;
  #pendingBytes = 0;
  #opaque = 0;
  #connectFailures = 0;
  #retryAtMs = 0;
  /** Why the latest connection ended. */
  #lastFault: ImgstoreError | undefined;
  #closed = false;

  constructor(options: MemcachedOptions) {
    this.#options = options;
    this.#nowMs = options.nowMs ?? (() => performance.now());
    this.#random = options.random ?? Math.random;
    this.#busyMs = options.busyMs ?? (() => performance.eventLoopUtilization().active);
  }

  /**
   * Faults, as of all requests: UNAVAILABLE, CORRUPT for a server that does not keep to the protocol,
   * BUSY where too much is under way already, so that it was not even asked.
   */
  async get(key: string, options: ReadOptions): Promise<ReadAnswer> {
    if (options.signal?.aborted === true) return 'unwanted';
    const answer = await this.#request(options.sizeMaxBytes, options.timeoutMs, options, opaque => [
      getRequest(key, opaque),
    ]);
    if (answer === 'refused') throw this.#fault('it is out of memory');
    return answer as ReadAnswer;
  }

  /** The value's parts, one after the other. Nobody may write to them any more: they may be sent late. */
  async set(
    key: string,
    value: readonly Buffer[],
    { timeoutMs, lifetimeSeconds }: { timeoutMs: number; lifetimeSeconds?: number },
  ): Promise<'stored' | 'refused'> {
    const sizeBytes = value.reduce((total, part) => total + part.length, 0);
    const answer = await this.#request(sizeBytes, timeoutMs, undefined, opaque => [
      setRequest(key, { sizeBytes, lifetimeSeconds }, opaque),
      ...value,
      valueEnd,
    ]);
    return answer === 'done' ? 'stored' : 'refused';
  }

  /** An empty value, if the key is free. The last of its seconds may be cut short. */
  async add(
    key: string,
    { lifetimeSeconds, timeoutMs }: { lifetimeSeconds: number; timeoutMs: number },
  ): Promise<'stored' | 'taken' | 'refused'> {
    const answer = await this.#request(0, timeoutMs, undefined, opaque => [
      addRequest(key, { sizeBytes: 0, lifetimeSeconds }, opaque),
      valueEnd,
    ]);
    if (answer === 'not stored') return 'taken';
    return answer === 'done' ? 'stored' : 'refused';
  }

  /** Its time begins anew. That it is not there is success. */
  async touch(
    key: string,
    { lifetimeSeconds, timeoutMs }: { lifetimeSeconds: number; timeoutMs: number },
  ): Promise<void> {
    await this.#request(0, timeoutMs, undefined, opaque => [
      touchRequest(key, lifetimeSeconds, opaque),
    ]);
  }

  /** That it is not there is success. */
  async delete(key: string, { timeoutMs }: { timeoutMs: number }): Promise<void> {
    await this.#request(0, timeoutMs, undefined, opaque => [deleteRequest(key, opaque)]);
  }

  /** Fails what is under way. */
  close(): void {
    this.#closed = true;
    if (this.#connection !== undefined) this.#end(this.#connection, this.#fault('it is closed'));
  }

  /** Answers that are awaited, also by nobody any more. */
  get requests(): number {
    return this.#connection?.requests.length ?? 0;
  }

  /** Whether it would not even connect now, after a connection that ended. */
  get isBackingOff(): boolean {
    return this.#connection === undefined && this.#nowMs() < this.#retryAtMs;
  }

  #request(
    sizeBytes: number,
    timeoutMs: number,
    read: ReadOptions | undefined,
    parts: (opaque: number) => (string | Buffer)[],
  ): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#giveUpIfStalled();
      if (this.#pendingBytes + sizeBytes > requestBytesMax || this.requests >= requestsMax) {
        throw this.#fault('too many requests wait for it', { code: 'BUSY' });
      }
      const connection = this.#connect();
      const opaque = this.#opaque;
      this.#opaque = (opaque + 1) % 2 ** 31;
      const request: Request = {
        opaque,
        sizeBytes,
        read,
        timeoutMs,
        sentMs: this.#nowMs(),
        busyMs: this.#busyMs(),
        timer: setTimeout(() => this.#expire(connection, request), timeoutMs),
        settle: outcome => {
          if (request.settled) return;
          request.settled = true;
          clearTimeout(request.timer);
          if (outcome instanceof ImgstoreError) reject(outcome);
          else resolve(outcome);
        },
        extended: false,
        settled: false,
        answer: undefined,
      };
      connection.requests.push(request);
      this.#pendingBytes += sizeBytes;
      const { socket } = connection;
      socket.cork();
      for (const part of parts(opaque)) socket.write(part, 'latin1');
      socket.uncork();
    });
  }

  #connect(): Connection {
    if (this.#connection !== undefined) return this.#connection;
    if (this.#closed) throw this.#fault('it is closed');
    if (this.#lastFault !== undefined && this.isBackingOff) {
      const { code, message, hint = '' } = this.#lastFault;
      throw new ImgstoreError(code, `${message}, just now`, { hint });
    }
    const received = Buffer.allocUnsafeSlow(receiveBufferSizeBytes);
    const socket = connect({
      host: this.#options.host,
      port: this.#options.port,
      noDelay: true,
      // Into one buffer again and again: values are copied out of it.
      onread: {
        buffer: received,
        callback: length => {
          this.#receive(connection, parser, received.subarray(0, length));
          return true;
        },
      },
    });
    const connection: Connection = { socket, requests: [] };
    const parser = new AnswerParser({
      begin: line => this.#begin(connection, line),
      end: () => this.#answered(connection),
    });
    const connecting = setTimeout(() => {
      this.#end(connection, this.#fault(`no connection within ${connectTimeoutMs} ms`));
    }, connectTimeoutMs);
    socket.on('connect', () => clearTimeout(connecting));
    socket.on('close', () => {
      clearTimeout(connecting);
      this.#end(connection, this.#fault('it closed the connection'));
    });
    socket.on('error', error => {
      const state = errnoOf(error) ?? 'the connection failed';
      this.#end(connection, this.#fault(state, { cause: error }));
    });
    this.#connection = connection;
    return connection;
  }

  #receive(connection: Connection, parser: AnswerParser, bytes: Buffer): void {
    if (this.#connection !== connection) return;
    try {
      parser.push(bytes);
    } catch (error) {
      if (!(error instanceof ProtocolFault)) throw error;
      this.#end(connection, error);
    }
  }

  #begin({ requests }: Connection, line: AnswerLine): Buffer | undefined {
    const request = requests[0];
    if (request === undefined) throw new ProtocolFault('it answers what nobody asked');
    const { kind, opaque } = line;
    if (opaque !== request.opaque && (opaque !== undefined || kind === 'value')) {
      throw new ProtocolFault('it answers another request');
    }
    if (kind !== 'value') {
      const isOfWrite = kind === 'done' || kind === 'not stored';
      if (isOfWrite && request.read !== undefined) throw new ProtocolFault('a value is missing');
      request.answer = kind;
      return undefined;
    }
    if (request.read === undefined) throw new ProtocolFault('it sends a value that nobody asked');
    if (line.sizeBytes > valueSizeMaxBytes) throw new ProtocolFault('a value is too large');
    request.answer = 'unwanted';
    if (request.settled || request.read.signal?.aborted === true) return undefined;
    request.answer = 'too large';
    if (line.sizeBytes > request.read.sizeMaxBytes) return undefined;
    request.answer = Buffer.allocUnsafeSlow(line.sizeBytes);
    return request.answer;
  }

  #answered({ requests }: Connection): void {
    const request = requests.shift()!;
    this.#pendingBytes -= request.sizeBytes;
    this.#connectFailures = 0;
    request.settle(request.answer!);
  }

  /**
   * The time for which this process was busy, or late to look, is not the server's: once it is given
   * back. A long value comes in parts, which the server sends as they are read. Even if the timer is in
   * time, the answer may have come while nobody looked: sockets are read after timers.
   */
  #expire(connection: Connection, request: Request): void {
    const { timeoutMs } = request;
    if (!request.extended) {
      request.extended = true;
      const lateMs = this.#nowMs() - request.sentMs - timeoutMs;
      const busyMs = this.#busyMs() - request.busyMs;
      const moreMs = Math.min(Math.max(lateMs, busyMs, 1), timeoutMs);
      request.timer = setTimeout(() => this.#expire(connection, request), moreMs);
      return;
    }
    const { code, message, hint = '' } = this.#fault(`no answer within ${timeoutMs} ms`);
    request.settle(new TimeOut(code, message, { hint }));
    this.#giveUpIfStalled();
  }

  /** Behind a stopped server or a cut cable the kernel would keep the connection for minutes. */
  #giveUpIfStalled(): void {
    const connection = this.#connection;
    const oldest = connection?.requests[0];
    if (connection === undefined || oldest === undefined) return;
    if (this.#nowMs() - oldest.sentMs < answerAgeMaxMs) return;
    this.#end(connection, this.#fault('it has stopped answering'));
    // It was waited for long enough: who asks now may see whether another connection is answered.
    this.#retryAtMs = 0;
  }

  #end(connection: Connection, fault: ImgstoreError): void {
    connection.socket.destroy();
    if (this.#connection !== connection) return;
    this.#connection = undefined;
    this.#pendingBytes = 0;
    this.#lastFault = fault;
    const retry = ++this.#connectFailures;
    const waitMs = backOffMs(reconnectBackOff, { retry, askedMs: 0, random: this.#random() });
    this.#retryAtMs = this.#nowMs() + waitMs;
    for (const request of connection.requests) request.settle(fault);
  }

  #fault(state: string, { code = 'UNAVAILABLE', cause }: FaultDetails = {}): ImgstoreError {
    const { host, port } = this.#options;
    return new ImgstoreError(code, `Cannot ask memcached at ${host}:${port}: ${state}`, {
      hint: 'See that this server runs, and is reached from here.',
      cause,
    });
  }
}
