/**
 * The descriptor of one FUSE connection: requests in, replies and notifications out.
 *
 * The kernel raises SIGIO when there is something to read; the event loop then reads, without
 * blocking, until nothing is left. No thread waits. Threads of libuv's pool, in read(2) or poll(2),
 * would have to be queued anew after each request, behind whatever fills the pool: also behind
 * mount(2) calls that wait for the very requests that nobody would read then. And process.exit
 * waits for such threads for ever.
 */

import { closeSync, writeSync, writev, writevSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { describeError, errnoOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { RequestHead } from './dispatcher.ts';
import { errno, notifyCode, replyHeader, requestSizeMaxBytes } from './format.ts';
import { readOrErrno, signalWhenReadable } from './system-calls.ts';

/** Requests served before timers and sockets get their turn; the largest take 0.2 ms each. */
const requestsPerTurn = 16;

/**
 * Turns of the event loop that look for the next request before it sleeps: about 40 µs in sum. A
 * process that reads step by step asks again within 20 µs, and waking up takes longer than that.
 * With one processor it would only delay the asker.
 */
const idleTurns = availableParallelism() > 1 ? 32 : 0;

/** Keeps the process alive while it serves, which a signal does not, and bounds what a lost one costs. */
const checkIntervalMs = 1000;

/** A signal that is on its way would end the process if nobody listened any more. */
const signalLingerMs = 1000;

/** writev(2) takes no more than 1024. */
const slicesMax = 1023;

export interface ChannelOptions {
  /** Of /dev/fuse, opened non-blocking. It is closed when the channel is. */
  fd: number;
  handle(request: Buffer, lengthBytes: number): void;
  log: Log;
}

export class Channel {
  /** Resolves when nothing is read any more: the connection is gone, or `stop` was called. */
  readonly ended: Promise<void>;
  readonly #end: () => void;
  readonly #fd: number;
  readonly #handle: ChannelOptions['handle'];
  readonly #log: Log;
  readonly #request = Buffer.allocUnsafeSlow(requestSizeMaxBytes);
  readonly #header = Buffer.alloc(replyHeader.sizeBytes);
  /** Notifications on their way; the descriptor must stay theirs until they are through. */
  readonly #notifying = new Set<Promise<void>>();
  #check: NodeJS.Timeout | undefined;
  /** Turns without a request so far; undefined while the event loop may sleep. */
  #idle: number | undefined;
  #state: 'new' | 'reading' | 'ended' = 'new';

  constructor({ fd, handle, log }: ChannelOptions) {
    this.#fd = fd;
    this.#handle = handle;
    this.#log = log;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.ended = promise;
    this.#end = resolve;
  }

  start(): void {
    this.#state = 'reading';
    process.on('SIGIO', this.#onReadable);
    process.on('exit', this.#onExit);
    this.#check = setInterval(this.#onReadable, checkIntervalMs);
    signalWhenReadable(this.#fd, true);
    this.#onReadable();
  }

  /** Stops reading and closes the descriptor. What was read and not answered stays unanswered. */
  async stop(): Promise<void> {
    if (this.#state !== 'ended') void this.#finish();
    await this.ended;
  }

  /** Answers a request, at once; whoever asked may have gone. `error` is 0 or an errno. */
  reply(head: RequestHead, error: number, body: readonly Uint8Array[]): void {
    if (this.#state === 'ended') return;
    let lengthBytes = replyHeader.sizeBytes;
    for (const slice of body) lengthBytes += slice.length;
    const header = this.#header;
    header.writeUInt32LE(lengthBytes, replyHeader.length);
    header.writeInt32LE(-error, replyHeader.error);
    header.writeUInt32LE(head.uniqueLow, replyHeader.unique);
    header.writeUInt32LE(head.uniqueHigh, replyHeader.unique + 4);
    const slices = body.length > slicesMax ? [Buffer.concat(body)] : body;
    try {
      writevSync(this.#fd, [header, ...slices]);
    } catch (failure) {
      // ENOENT: nobody waits for it any more.
      if (errnoOf(failure) === 'ENOENT') return;
      this.#log('error', `Cannot answer the kernel: ${describeError(failure)}`);
      // Who waits must not wait for ever; the bare header may go where the bytes did not.
      if (body.length > 0) this.reply(head, errno.EIO, []);
    }
  }

  /** Asks the kernel to send again what was read from this connection and never answered. */
  resend(): void {
    writeSync(this.#fd, notification(notifyCode.resend, 0));
  }

  /**
   * Tells the kernel something. Not on the event loop: it may take the lock of a directory that a
   * look-up holds, which this process has yet to answer. Rejects with ENOENT if there is nothing.
   */
  async notify(code: number, payload: Buffer): Promise<void> {
    if (this.#state !== 'reading') return;
    const header = notification(code, payload.length);
    const written = new Promise<void>((resolve, reject) => {
      writev(this.#fd, [header, payload], error => (error === null ? resolve() : reject(error)));
    });
    this.#notifying.add(written);
    await written.finally(() => this.#notifying.delete(written));
  }

  readonly #onReadable = (): void => {
    if (this.#idle !== undefined || this.#state !== 'reading') return;
    this.#idle = 0;
    this.#drain();
  };

  readonly #drain = (): void => {
    for (let i = 0; i < requestsPerTurn && this.#state === 'reading'; i++) {
      const result = readOrErrno(this.#fd, this.#request);
      if (result >= 0) {
        this.#idle = 0;
        this.#handle(this.#request, result);
      } else if (result === -errno.EAGAIN) {
        this.#idle = (this.#idle ?? 0) + 1;
        break;
      } else if (result !== -errno.ENOENT && result !== -errno.EINTR) {
        this.#readFailed(-result);
      }
    }
    const isAwake = this.#idle !== undefined && this.#idle <= idleTurns;
    if (isAwake && this.#state === 'reading') setImmediate(this.#drain);
    else this.#idle = undefined;
  };

  #readFailed(number: number): void {
    if (number !== errno.ENODEV && number !== errno.ECONNABORTED) {
      this.#log('error', `Cannot read the kernel's requests: errno ${number}`);
    }
    void this.#finish();
  }

  async #finish(): Promise<void> {
    const wasReading = this.#state === 'reading';
    this.#state = 'ended';
    clearInterval(this.#check);
    if (wasReading) {
      this.#onExit();
      process.off('exit', this.#onExit);
      setTimeout(() => process.off('SIGIO', this.#onReadable), signalLingerMs).unref();
    }
    await Promise.allSettled(this.#notifying);
    closeSync(this.#fd);
    this.#end();
  }

  /** The connection may live on without this process. */
  readonly #onExit = (): void => signalWhenReadable(this.#fd, false);
}

function notification(code: number, payloadBytes: number): Buffer {
  const header = Buffer.alloc(replyHeader.sizeBytes);
  header.writeUInt32LE(replyHeader.sizeBytes + payloadBytes, replyHeader.length);
  header.writeInt32LE(code, replyHeader.error);
  return header;
}
